"""How a command asks the post office (`fronts/control`): an object there, one back, how far it is meanwhile.

Verbs of mail may be asked again when the post office leaves before it has answered: the request stays the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mcp_mailbox import frames, machine, rendezvous
from mcp_mailbox.fronts.cli import person, screen, shown

Json = dict[str, Any]
_TRIES = 4
_CONTENT_SECONDS = 120.0
"""Seconds that it may take for a piece of an attachment; an edge fetches all of it before the first."""
_AGAIN = ("leaving", "stopping")
_TAKEN = "name_taken"


class Answered(rendezvous.Refused):
    """The post office's no: `answer` is its JSON, as a tool would give it."""

    def __init__(self, answer: Json) -> None:
        super().__init__(answer["error"], f"{answer['message']} {answer['hint']}".strip())
        self.answer = {name: value for name, value in answer.items() if value != ""}


def ask(do: str, told: Callable[[bytes], None] = lambda _: None, seconds: float = 30.0, /, **arguments: object) -> Json:
    """Put a command to the post office, which is started when there is none.

    What takes long is `told` how far it is, and `seconds` is the longest silence. Raises rendezvous.Refused.
    """
    found = _put(do, arguments, told, lambda _: None, seconds, start=True)
    assert found is not None  # noqa: S101 - it was started
    return found


def ask_content(about: Json, tell: Callable[[float, float], None] = lambda _, __: None) -> bytes:
    """Return an attachment, `about` which of what message; `tell` hears how many bytes there are, of how many.

    Raises rendezvous.Refused.
    """
    import binascii  # noqa: PLC0415 - for who wants an attachment

    content = bytearray()

    def told(line: bytes) -> None:
        piece = json.loads(line)
        content.extend(binascii.a2b_base64(piece["content"]))
        if len(content) < piece["size"]:
            tell(len(content), piece["size"])

    ask("attachment", told, _CONTENT_SECONDS, **about)
    return bytes(content)


def ask_running(do: str, seconds: float) -> Json | None:
    """Put a command to the post office; None when none runs. Raises rendezvous.Refused."""
    return _put(do, {}, lambda _: None, lambda _: None, seconds, start=False)


def ask_once(
    do: str,
    who: Json,
    given: Json,
    *,
    use: Callable[[Json], None] = lambda _: None,
    told: Callable[[Json], None] = lambda _: None,
    seconds: float = 30.0,
    start: bool = True,
) -> Json | None:
    """Put a verb of mail to the post office; None when there is none and it is not to `start`.

    Only when the answer has been put to `use` does what it shows count as seen. Whoever had no mailbox before hears
    which one was made. Raises rendezvous.Refused.
    """

    def heard(line: bytes) -> None:
        said = json.loads(line)
        if "made" in said:
            screen.note(shown.line(f"Made your mailbox {said['made']}."))
        else:
            told(said)

    arguments = {"who": who, "given": {name: value for name, value in given.items() if value is not None}}
    try:
        return _put(do, arguments, heard, use, seconds, start=start)
    except Answered as refused:
        if refused.code != _TAKEN or "own" not in who:
            raise
        raise Answered({**refused.answer, "hint": person.another_name()}) from None


def ask_mail(do: str, who: Json, given: Json, use: Callable[[Json], None] = lambda _: None) -> Json:
    """As `ask_once`, again when the post office has left meanwhile."""
    for left in reversed(range(_TRIES)):
        try:
            found = ask_once(do, who, given, use=use)
        except rendezvous.Refused as refused:
            if refused.code not in _AGAIN or not left:
                raise
        else:
            assert found is not None  # noqa: S101 - it was started
            return found
    raise AssertionError


def _put(
    do: str,
    arguments: Json,
    told: Callable[[bytes], None],
    use: Callable[[Json], None],
    seconds: float,
    *,
    start: bool,
) -> Json | None:
    asked = json.dumps({"do": do, **arguments}, ensure_ascii=False).encode("utf-8", "surrogatepass").hex()
    if len(asked) > frames.COMMAND_LIMIT:
        raise rendezvous.Refused(
            "body_too_large",
            "That is far more than a message can hold. Send it in parts, or write a file and --attach it.",
        )
    answers: list[Json] = []

    def used(line: bytes) -> None:
        answer: Json = json.loads(line or b"{}")
        if "error" in answer:
            raise Answered(answer)
        if "unreachable_since" in answer:  # beside the answer, whatever that is: silence is no empty inbox
            screen.note(shown.line(f"mcp-mailbox: {answer.pop('hint')}"))
        use(answer)
        answers.append(answer)

    found = rendezvous.ask(machine.home(), frames.COMMAND, asked, seconds, start=start, told=told, use=used)
    return answers[0] if found is not None else None
