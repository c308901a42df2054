"""What the post office itself writes: receipts (RFC 8098), reports of what came to nothing (RFC 3464), and requests.

None is ever reported on in turn (RFC 5321 section 4.5.5), and a receipt does not ring.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mcp_mailbox.budgets import moment
from mcp_mailbox.delivery import State
from mcp_mailbox.message import SUBJECT_LIMIT, Format, Kind

POSTMASTER = "postmaster"
"""Who signs these (RFC 2142 section 5). Nobody else can have that name."""
SYSTEM = ""
"""The principal to whom the postmaster's mailboxes belong; no credential can speak for it."""

_MOST = 10
"""Recipients, and problems, of which a report tells."""
_NAME = 200
_WHY = 500
"""Characters of each."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What the post office says, before it is a message."""

    kind: Kind
    subject: str
    body: str
    format: Format = Format.TEXT


def notice(
    state: State,
    *,
    id: str,  # noqa: A002 - the domain's word
    subject: str,
    recipient: str,
    attempts: int,
    reason: str,
    held: bool = False,
) -> Notice:
    """Return what the sender of that message is told of its delivery to the recipient, which came to that state.

    `held` when it came to that without ever having been let in.
    """
    if state is State.ACKED:
        return Notice(Kind.RECEIPT, _subject("Acked", subject), f"{recipient} has acked your message {id}.")
    why = {
        State.REJECTED: "was declined: its owner does not take your mail" if held else "was rejected",
        State.EXPIRED: f"expired before {'its owner had let you in' if held else 'anybody was done with it'}",
        State.DEAD: f"was taken {'once' if attempts == 1 else f'{attempts} times'} and never acked",
    }[state]
    because = f" The reason given: {reason}" if reason else ""
    kept = f"{recipient} still has it among its dead letters: nobody is handed it unless its owner retries it."
    body = f"Your message {id} to {recipient} {why}.{because}\n{kept}"
    return Notice(Kind.REPORT, _subject("Not delivered", subject), body)


def stopped(*, sender: str, limit: str, until: int) -> Notice:
    """Return what the others in a thread are told when the loop guard has refused that sender's answer in it.

    `limit` says which it was, `until` when there is room again, in ms since 1970 UTC.
    """
    body = (
        f"{sender} wanted to write to you in this thread and was refused: {limit} are the loop guard's limit."
        f" There is room again from {moment(until)} on. Nothing that was sent is lost, and no answer is due:"
        " do not wait for one, and do not answer this."
    )
    return Notice(Kind.REPORT, f"{sender} was stopped by the loop guard"[:SUBJECT_LIMIT], body)


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Mail that another machine had taken in, and that came to nothing here, or not to all.

    `id` is what its sender was told there, `at` when, in ms since 1970 UTC, None where that is not known. `problems`
    are whom each concerns, empty for all of them, and what is wrong, with what to do. `stored` is the message's id for
    the others, None when nobody has it.
    """

    id: str
    to: Sequence[str]
    subject: str
    at: int | None
    problems: Sequence[tuple[str, str]]
    stored: str | None = None


def undelivered(what: Undelivered) -> Notice:
    """Return what the sender is told of it: its host was answered long ago, and may be gone."""
    to = _some([each[:_NAME] for each in what.to]) or "nobody"
    when = f", which your machine took in at {moment(what.at)}" if what.at is not None else ""
    about = f", about {what.subject[:SUBJECT_LIMIT]!r}" if what.subject else ""
    fate = "was not sent" if what.stored is None else f"was sent as {what.stored}, but not to all"
    why = "\n".join(f"{whom[:_NAME]}: {said[:_WHY]}" if whom else said[:_WHY] for whom, said in what.problems[:_MOST])
    more = f"\nand {len(what.problems) - _MOST} more" if len(what.problems) > _MOST else ""
    end = "The others have it."
    if what.stored is None:
        end = f"Nobody has it: send it again, changed as that says. `read` of {what.id} shows it, where you wrote it."
    body = f"Your message {what.id} to {to}{about}{when}, {fate}.\n{why}{more}\n{end}"
    return Notice(Kind.REPORT, _subject("Not delivered", what.subject), body)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more


def request(*, id: str, sender: str, known_since: int, subject: str, preview: str) -> Notice:  # noqa: A002
    """Return what the owner of a mailbox is told of a stranger whose first message, of that id, waits there.

    `known_since` is when the stranger's mailbox was made, in ms since 1970 UTC. It is JSON, so that a stranger's words
    cannot be taken for the postmaster's.
    """
    said = {
        "asks": sender,
        "known_since": datetime.fromtimestamp(known_since / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "subject": subject,
        "preview": preview,
        "held": id,
        "decide": "settle this with accept: it is delivered, and the sender may write to you; with reject: it may not."
        " The same on this id later changes your mind. An answer to the sender accepts as well.",
    }
    return Notice(
        Kind.REQUEST,
        f"{sender} asks to write to you"[:SUBJECT_LIMIT],
        json.dumps(said, ensure_ascii=False),
        Format.JSON,
    )


def _subject(what: str, subject: str) -> str:
    return f"{what}: {subject}"[:SUBJECT_LIMIT] if subject else what
