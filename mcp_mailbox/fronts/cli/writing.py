"""`mcp-mailbox send` and `reply`: where a body comes from, and what became of it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable
from typing import Any

from mcp_mailbox import rendezvous
from mcp_mailbox.fronts.cli import attaching, exits, person, screen, shown, times, trouble
from mcp_mailbox.fronts.cli.asking import ask_mail

Json = dict[str, Any]
Run = Callable[[argparse.Namespace], int]
_FROM_STDIN = "-"
_SUBJECT_LIMIT = 200
"""Characters (`message.SUBJECT_LIMIT`)."""
_HELD = "held"
"""State of what waits for its sender to be let in (`delivery.State`)."""
_NO_UTF8 = "The body is no UTF-8 text. Attach it as a file: --attach FILE."


def send(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `send`."""
    parser.add_argument("to", nargs="+", metavar="TO", help="name or name@space; several with spaces or commas")
    parser.add_argument("-s", "--subject", default="", help="one line")
    parser.add_argument("--cc", action="append", default=[], metavar="ADDRESS", help="a copy, without ringing")
    parser.add_argument("--key", help="the same key on a retry: stored once")
    _shared(parser)
    return lambda chosen: _send(chosen, parser)


def reply(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `reply`."""
    parser.add_argument("id", help="of the message that you answer, which acks it")
    parser.add_argument("-s", "--subject", help="instead of `Re:` and its own")
    parser.add_argument("--all", action="store_true", help="its other recipients get it as well")
    _shared(parser)
    return lambda chosen: _reply(chosen, parser)


def _shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-b", "--body", metavar="TEXT", help="what you say; - or none: standard input, or on a terminal your $EDITOR"
    )
    parser.add_argument("--json-body", action="store_true", help="the body is JSON, and kept as that")
    parser.add_argument("--priority", choices=("urgent", "normal", "low"), help="which mail is read first")
    parser.add_argument("--ttl", type=times.seconds, metavar="TIME", help="expires after that: 90, 10m, 2h, 3d")
    parser.add_argument("--delay", type=times.seconds, metavar="TIME", help="held back for so long")
    parser.add_argument("--topic", help="replaces your unseen mail of that topic")
    parser.add_argument("--receipt", action="store_true", help="tell me of the ack")
    attaching.option(parser)
    person.options(parser)


def _send(chosen: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    given = {"to": chosen.to, "subject": chosen.subject, "cc": chosen.cc, "key": chosen.key}
    return _post(chosen, parser, person.who(chosen), given, "")


def _reply(chosen: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    who = person.who(chosen)
    answered = ask_mail("read", {**who, "request": f"{who['request']} read"}, {"id": chosen.id})
    mine = bool(answered.get("sent"))
    asked = trouble.request(answered)  # whoever asks is answered, which lets it in
    to = answered["to"] if mine else [asked["asks"] if asked else answered["from"]]
    given: Json = {"to": to, "reply_to": chosen.id}
    if chosen.all:
        others = [each for each in (*answered["to"], *answered.get("cc", [])) if each not in to]
        own = person.own() if chosen.mailbox is None else chosen.mailbox
        known = {own.casefold(), f"{own}@{person.space(chosen)}".casefold()}
        given["cc"] = [each for each in others if each.casefold() not in known]
    subject = (asked or answered).get("subject", "")
    again = subject if subject.lower().startswith("re:") or not subject else f"Re: {subject}"[:_SUBJECT_LIMIT]
    given["subject"] = again if chosen.subject is None else chosen.subject
    quoted = "".join(f"> {each}\n" for each in shown.lines(answered["body"])) if answered["format"] == "text" else ""
    return _post(chosen, parser, who, given, f"\n\n{shown.line(answered['from'])} wrote:\n{quoted}" if quoted else "")


def _post(chosen: argparse.Namespace, parser: argparse.ArgumentParser, who: Json, given: Json, quoted: str) -> int:
    body = _body(chosen, parser, quoted)
    if body is None:
        screen.note("Nothing was sent.")
        return exits.NOTHING
    names = ("priority", "ttl", "delay", "topic")
    given |= {name: getattr(chosen, name) for name in names} | {"body": body, "receipt": chosen.receipt}
    with attaching.handed_in(chosen.attach) as handed:
        answer = ask_mail("send", who, {**given, "handed": handed or None})
    refused = [each for each in answer["to"] if "error" in each]
    if chosen.json:
        print(shown.json_page(answer))  # noqa: T201 - a command line prints
    else:
        reached = [each for each in answer["to"] if "error" not in each]
        held = [person.near(each["address"], chosen) for each in reached if each.get("state") == _HELD]
        stored = [person.near(each["address"], chosen) for each in reached if each.get("state") != _HELD]
        again = ", which had been sent before" if answer.get("repeated") else ""
        done = "Kept for the hub:" if answer.get("accepted") == "outbox" else "Sent"
        if stored:
            print(f"{done} {answer['id']} to {shown.line(', '.join(stored))}{again}.")  # noqa: T201
        if held:
            whom = "its owner lets" if len(held) == 1 else "their owners let"
            print(  # noqa: T201
                f"Held {answer['id']} for {shown.line(', '.join(held))}{again}: it is delivered once {whom} you write"
                f" there. `mcp-mailbox read {answer['id']}` shows how far it is."
            )
        for each in refused:
            screen.note(f"mcp-mailbox: {shown.line(trouble.as_text(each))}")
    return exits.REFUSED if refused else exits.DONE


def _body(chosen: argparse.Namespace, parser: argparse.ArgumentParser, quoted: str) -> object:
    """Return what is to be said; None when somebody thought better of it.

    Ends with 2 where standard input says nothing: scripts have an empty one without meaning it. Raises
    rendezvous.Refused for what is no text, or no JSON.
    """
    text = chosen.body
    if text is None or text == _FROM_STDIN:
        if text is None and sys.stdin.isatty() and (editor := os.environ.get("VISUAL") or os.environ.get("EDITOR")):
            text = _edited(editor, quoted)
            if not text.strip() or text == quoted:
                return None
        else:
            if sys.stdin.isatty():
                screen.note("Write, and end with Ctrl-D:")
            text = _standard_input()
            if not (text or chosen.attach or chosen.json_body):  # a file says enough, and no JSON is refused as that
                parser.error("nothing came from standard input; -b '' sends an empty message")
    if not chosen.json_body:
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise rendezvous.Refused("bad_argument", f"The body is no JSON: {error}.") from None


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise rendezvous.Refused("bad_argument", _NO_UTF8) from None


def _edited(editor: str, begun: str) -> str:
    """Return what the editor leaves in a file of its own."""
    import subprocess  # noqa: PLC0415 - only for who has an editor
    import tempfile  # noqa: PLC0415

    with tempfile.NamedTemporaryFile("w", prefix="mcp-mailbox-", suffix=".txt", encoding="utf-8") as file:
        file.write(begun)
        file.flush()
        try:
            done = subprocess.run([*shlex.split(editor), file.name], check=False)  # noqa: S603 - the user's own editor
        except OSError as error:
            raise rendezvous.Refused("no_editor", f"{editor}: {error.strerror}. Set EDITOR, or use --body.") from None
        if done.returncode:
            return ""
        with open(file.name, "rb") as written:  # noqa: PTH123 - editors replace the file; its name is what counts
            try:
                return written.read().decode()
            except UnicodeDecodeError:
                raise rendezvous.Refused("bad_argument", _NO_UTF8) from None
