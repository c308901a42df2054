"""A message as other programs know it: RFC 5322 (for Maildir and mbox), JSON Lines, Markdown.

Attachments are parts (RFC 2046), base64, or links. Whatever a body or a subject holds comes back to the letter. Nothing
of it is taken for anything but text: no body ends its block, no line of it begins a message, no control character
reaches a terminal. Files are not known here.
"""

from __future__ import annotations

import binascii
import json
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime
from typing import Any

Json = dict[str, Any]

_PLAIN = re.compile(r"[!-~]+( [!-~]+)*")
"""A subject that may stand in a header as it is."""
_WORD = re.compile(r"[A-Za-z0-9._-]{1,60}")
"""A file name that may stand in a header as it is."""
_SUBJECT_WIDTH = 60
_FOLD = 70
_WORD_BYTES = 42
"""Bytes in an encoded word, which has at most 75 characters."""
_TYPES = {"text": 'text/plain; charset="utf-8"', "json": "application/json"}
# Controls, and what turns text around or breaks lines where none are seen (Unicode TR 36, 3.1; CVE-2021-42574).
_UNSEEN = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_ESCAPED_IN_BODY = re.compile(rf"[\\{_UNSEEN}]")
_HIDDEN = re.compile(f"[{_UNSEEN}]")
_ESCAPED_IN_LINE = re.compile(rf"(?P<mark>[!-/:-@\[-`{{-~])|[\t\n{_UNSEEN}]|^ | $")
_BREAK = re.compile("[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")


_MOMENTS = (
    *("written_at", "expires_at", "deliver_at", "rung_at", "surfaced_at", "leased_at", "lease_until", "settled_at"),
)


def jsonl(mail: Json) -> bytes:
    """Return one line of ASCII: no reader takes U+2028 for its end, no terminal obeys it. A JSON body is JSON in it."""
    times = {name: moment(mail.get(name)) for name in ("accepted_at", *_MOMENTS)}
    body = json.loads(mail["body"]) if mail["format"] == "json" else mail["body"]
    recipients = [{**each, "at": moment(each["at"])} for each in mail["recipients"]]
    attachments = [{**each, "content": _based(each["content"])} for each in mail["attachments"]]
    said = {**mail, "body": body, "recipients": recipients, **times, "attachments": attachments}
    return json.dumps(said).encode() + b"\n"


def contents(mail: Json) -> dict[str, bytes]:
    """Return what is attached and not lost, by name."""
    return {each["name"]: each["content"] for each in mail["attachments"] if each["content"] is not None}


def _based(content: bytes | None) -> str | None:
    return None if content is None else binascii.b2a_base64(content, newline=False).decode()


def moment(ms: int | None) -> str | None:
    """Return a time as RFC 3339 has it, to the ms."""
    return None if ms is None else _time(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)


# -- RFC 5322


def email(mail: Json, store: str) -> bytes:
    """Return the message, in lines of ASCII that end with LF and none of which begins with "From "."""
    encoding, body = _encoded(mail["body"].encode())
    entity = {"Content-Type": _TYPES[mail["format"]], "Content-Transfer-Encoding": encoding}
    if mail["attachments"]:
        # No line of a body begins so: in quoted-printable a "=" has two digits or the line's end behind it, base64
        # has it at its end only.
        boundary = f"=_{mail['id']}.{store}"
        body = _parts(boundary, _head(entity) + b"\n" + body, mail["attachments"])
        entity = {"Content-Type": f'multipart/mixed; boundary="{boundary}"'}
    head = {
        "From": _address(mail["from"]),
        "To": _addresses(mail["to"]),
        "Cc": _addresses(mail["cc"]),
        "Date": format_datetime(_time(mail.get("written_at") or mail["accepted_at"]).replace(microsecond=0)),
        "Subject": _text(mail["subject"]),
        "Message-ID": _message_id(mail["id"], store),
        "In-Reply-To": mail["reply_to"] and _message_id(mail["reply_to"], store),
        "References": mail["reply_to"] and _references(mail, store),
        "X-Mailbox-State": mail["state"] or "sent",
        "X-Mailbox-Reason": _text(mail["reason"]),
        "X-Mailbox-Kind": mail["kind"],
        "X-Mailbox-Priority": mail["priority"],
        "X-Mailbox-Id": mail["id"],
        "X-Mailbox-Thread": mail["thread"],
        "X-Mailbox-Accepted": moment(mail["accepted_at"]),
        **{f"X-Mailbox-{_titled(name)}": moment(mail.get(name)) for name in _MOMENTS},
        "X-Mailbox-Attempts": str(mail["attempts"]) if mail["state"] is not None else None,
        "X-Mailbox-Signature": _folded(mail.get("signature") or ""),
        "X-Mailbox-Missing": ", ".join(_ascii(each["name"]) for each in mail["attachments"] if each["content"] is None),
        "MIME-Version": "1.0",
        **entity,
    }
    return _head(head) + b"\n" + body


def _head(fields: Mapping[str, str | None]) -> bytes:
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value).encode()


def _parts(boundary: str, body: bytes, attachments: Sequence[Json]) -> bytes:
    """Return a message in parts (RFC 2046, 5.1): what is said, then what is attached."""
    parts = [body]
    for each in attachments:
        if each["content"] is not None:
            # RFC 2046, 5.2.1: a message may not be base64, and would be read as one.
            kind = "application/octet-stream" if each["type"].startswith(("message/", "multipart/")) else each["type"]
            entity = {
                "Content-Type": kind,
                "Content-Transfer-Encoding": "base64",
                "Content-Disposition": f"attachment; {_filename(each['name'])}",
            }
            parts.append(_head(entity) + b"\n" + _lines(binascii.b2a_base64(each["content"], newline=False)))
    line = f"--{boundary}".encode()
    return b"".join(line + b"\n" + part + b"\n" for part in parts) + line + b"--\n"


def _folded(jws: str) -> str:
    """Return what has no spaces in lines that a header may have (RFC 5322, 2.2.3): a reader takes them out again."""
    return "\n ".join(jws[start : start + _FOLD] for start in range(0, len(jws), _FOLD))


def _filename(name: str) -> str:
    """RFC 2231, 4: what is not a plain word is percent-encoded."""
    return f'filename="{name}"' if _WORD.fullmatch(name) else f"filename*=utf-8''{urllib.parse.quote(name, safe='')}"


def envelope(mail: Json) -> bytes:
    """Return the line that begins a message in an mbox (RFC 4155)."""
    when = _time(mail["accepted_at"]).strftime("%a %b %d %H:%M:%S %Y")
    return f"From {_ascii(mail['from'])} {when}\n".encode()


def _ascii(address: str) -> str:
    """Return an address that any program can read: percent-encoded like our URIs; ASCII names are as they were."""
    return urllib.parse.quote(address, safe="@.-_")


def _address(address: str) -> str:
    plain = _ascii(address)
    return plain if plain == address else f"{Header(address, 'utf-8').encode(maxlinelen=0)} <{plain}>"


def _addresses(several: list[str]) -> str:
    return ",\n ".join(_address(each) for each in several)


def _text(text: str) -> str:
    """Return what may stand in a header, for RFC 2047; a reason may have line breaks, which `Header` would lose."""
    if len(text) <= _SUBJECT_WIDTH and "=?" not in text and (not text or _PLAIN.fullmatch(text)):
        return text
    if not _BREAK.search(text):
        return Header(text, "utf-8", header_name="X-Mailbox-Reason").encode()
    words, word = [], b""
    for character in map(str.encode, text):
        if len(word) + len(character) > _WORD_BYTES:
            words.append(word)
            word = b""
        word += character
    return "\n ".join(f"=?utf-8?b?{binascii.b2a_base64(each, newline=False).decode()}?=" for each in (*words, word))


def _titled(name: str) -> str:
    return name.removesuffix("_at").title().replace("_", "-")


def _references(mail: Json, store: str) -> str:
    """Return what a reader threads by: the first message of the thread, and the one that is answered."""
    return "\n ".join(_message_id(each, store) for each in dict.fromkeys((mail["thread"], mail["reply_to"])))


def _message_id(id_: str, store: str) -> str:
    return f"<{id_}@{store}.mcp-mailbox>"


def _encoded(body: bytes) -> tuple[str, bytes]:
    """Return the body as RFC 2045 spells it, in whichever way is shorter; text in Latin letters stays readable.

    Line feeds alone are lines. A carriage return is spelled, or a reader would make something else of it.
    """
    # The last line ends softly: what a file puts behind the body is not taken for a part of it.
    lines = [binascii.b2a_qp(line, istext=False) for line in body.split(b"\n")]
    quoted = re.sub(rb"(?m)^From ", b"=46rom ", b"\n".join(lines)) + b"=\n"
    based = binascii.b2a_base64(body, newline=False)
    if len(based) < len(quoted):
        return "base64", _lines(based)
    return "quoted-printable", quoted


def _lines(based: bytes) -> bytes:
    return b"".join(based[start : start + 76] + b"\n" for start in range(0, len(based), 76))


# -- Markdown


def title(address: str) -> bytes:
    """Return the heading of an export in Markdown."""
    return f"# Mail of {_code(address)}\n".encode()


def markdown(mail: Json, links: Mapping[str, str]) -> bytes:
    """Return a section; `links` are where attachments are, by name.

    The body is a block of code as it is; with backslashes where it has what cannot be seen.
    """
    state = mail["state"] or "sent"
    settled = f" {moment(mail['settled_at'])}" if mail["settled_at"] is not None else ""
    times = [f"{_said(name)} {moment(mail[name])}" for name in _MOMENTS if mail.get(name) and name != "settled_at"]
    rows = [
        ("from", _code(mail["from"])),
        ("to", ", ".join(_code(each) for each in mail["to"])),
        *([("cc", ", ".join(_code(each) for each in mail["cc"]))] if mail["cc"] else []),
        *([("kind", mail["kind"])] if mail["kind"] != "message" else []),
        ("accepted", moment(mail["accepted_at"])),
        ("state", f"{state}{settled}, {mail['priority']}"),
        *([("reason", _line(mail["reason"]))] if mail["reason"] else []),
        *([("times", ", ".join(times))] if times else []),
        ("id", _code(mail["id"])),
        *([("in reply to", _code(mail["reply_to"]))] if mail["reply_to"] is not None else []),
        *([("thread", _code(mail["thread"]))] if mail["thread"] != mail["id"] else []),
        *(("attached", _attached(each, links)) for each in mail["attachments"]),
    ]
    body = mail["body"]
    kind = mail["format"]
    if _HIDDEN.search(body):
        body, kind = _ESCAPED_IN_BODY.sub(_backslashed, body), f"{kind} escaped"
    fence = _fence(body)
    facts = "".join(f"- {name}: {value}\n" for name, value in rows)
    subject = _line(mail["subject"]) or "(no subject)"
    return f"\n## {subject}\n\n{facts}\n{fence}{kind}\n{body}\n{fence}\n".encode()


def _code(text: str) -> str:
    return f"`{text}`"  # addresses and ids have no backticks


def _attached(attachment: Json, links: Mapping[str, str]) -> str:
    name, link = _line(attachment["name"]), links.get(attachment["name"])
    shown = f"[{name}]({urllib.parse.quote(link, safe='/')})" if link is not None else name
    lost = ", lost" if attachment["content"] is None else ""
    return f"{shown}, {attachment['size']} bytes{lost}"


def _fence(body: str) -> str:
    """Return a fence that is longer than any in the body (CommonMark 4.5)."""
    marks = []
    for mark in "`~":
        longest = max((len(run) for run in re.findall(f"{mark}+", body)), default=0)
        marks.append(mark * max(3, longest + 1))
    return min(marks, key=len)


def _line(text: str) -> str:
    return _ESCAPED_IN_LINE.sub(_as_text, text)


def _said(name: str) -> str:
    return name.removesuffix("_at").replace("_", " ")


def _backslashed(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    return "\\\\" if character == "\\" else f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"  # noqa: PLR2004


def _as_text(found: re.Match[str]) -> str:
    """CommonMark 2.4 and 2.5: any punctuation may have a backslash, any character may be its number."""
    return f"\\{found['mark']}" if found["mark"] else f"&#{ord(found[0])};"
