"""How bells are spelled on the wire, and which answers of a hub are believed: it may be anybody."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.doorbell import Doorbell, Pointer, Terms
from mcp_mailbox.errors import Refusal
from mcp_mailbox.link.hub import Strange

Json = dict[str, Any]

_NAMING = {"own", "create_mailbox", "settle", "mailboxes"}
"""Verbs whose answers have names that are kept."""


def plausible(verb: str, answer: Json) -> Json:
    """Return an answer in which stands what is kept of it here. Raises Strange."""
    messages = answer.get("messages", [])
    if verb == "news" and isinstance(messages, int):  # it says how many there are
        messages = []
    names = [*_list(answer.get("settled", [])), *_list(answer.get("mailboxes", []))]
    if verb in {"own", "create_mailbox"}:
        names.append(answer.get("address"))
    if verb == "mailboxes" and "mailboxes" not in answer:
        raise Strange("its answer has no mailboxes")
    if verb in {"read", "entire"} and "body" in answer:
        messages = [answer]
    if verb == "read" and ("body" not in answer or "uri" in answer) and not _is_file(answer):
        raise Strange("its answer is neither a message nor a file")
    if not all(isinstance(each, dict) and isinstance(each.get("id"), str) for each in _list(messages)):
        raise Strange("its answer has messages without ids")
    if verb in _NAMING and not all(isinstance(each, str) for each in names):
        raise Strange("its answer has other things than names")
    for each in names if verb in _NAMING - {"settle"} else ():
        try:
            addresses.parse(each, addresses.DEFAULT_SPACE)
        except Refusal:
            raise Strange("its answer has other things than addresses") from None
    return answer


def _is_file(answer: Json) -> bool:
    """Whether it says what a copy of an attachment needs."""
    return isinstance(answer.get("attachment"), str) and isinstance(answer.get("size"), int)


def _list(found: object) -> list[Any]:
    if not isinstance(found, list):
        raise Strange("its answer is no list where one belongs")
    return found


def bell(bell: Doorbell | None, terms: Terms | None, *, resumed: bool) -> Json | None:
    """Return what the hub is told of a bell and when it may be rung (`wire.Bell`); None for none."""
    if bell is None or terms is None:
        return None
    quiet = terms.quiet
    hours = f"{quiet.begin // 60:02}:{quiet.begin % 60:02}-{quiet.end // 60:02}:{quiet.end % 60:02}" if quiet else None
    said = {"kind": bell.kind, "wakes": terms.wakes, "resumed": resumed, "quiet": hours}
    if hours is not None:
        said["east"] = east()
    return {name: each for name, each in said.items() if each is not None}


def east() -> int:
    """Return by how many minutes this machine's time is ahead of UTC now."""
    return time.localtime().tm_gmtoff // 60


def pointer(told: Mapping[str, Any]) -> Pointer:
    """Read what a host is to be told. Raises KeyError, TypeError, ValueError and Refusal for what is none."""

    def parse(text: object) -> Address:
        return addresses.parse_any(str(text), addresses.DEFAULT_SPACE)

    return Pointer(
        int(told["at"]),
        parse(told["mailbox"]),
        int(told["count"]),
        tuple(map(parse, told["senders"])),
        int(told["urgent"]),
        bool(told["more"]),
        tuple(map(parse, told["places"])),
    )
