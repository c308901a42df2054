"""An attachment: a content under a name, beside what a message says. How much there may be, and how it is called.

What it is called comes from whoever sends it, and what it is from its name: nobody may rely on either. What it is not
is decided by its bytes alone (`text`). Where contents lie and whose files may be read is not known here.
"""

from __future__ import annotations

import mimetypes
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mcp_mailbox.errors import Code, Refusal

MIB = 1 << 20
COUNT_LIMIT = 10
"""Attachments of one message."""
NAME_LIMIT = 120
"""Characters of a name,"""
_NAME_BYTES = 200
"""and its bytes: file systems take 255, and a copy has something before it."""
UNKNOWN_TYPE = "application/octet-stream"
_NAMELESS = "attachment"
# The table that comes with Python alone: what a machine's own files say of endings is that machine's.
_TYPES = mimetypes.MimeTypes()
_TYPES.add_type("text/markdown", ".md")
_FORBIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of Unicode that no name shows: controls, what turns text around, halves of characters, line breaks."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of one attachment, and of all of a message together."""

    each: int = 10 * MIB
    together: int = 25 * MIB


@dataclass(frozen=True, slots=True)
class Content:
    """What was kept: its SHA-256 in hex digits, and its bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Attachment:
    """One of a message's attachments. `type` is a media type (RFC 6838), guessed from the name."""

    name: str
    type: str
    size: int
    sha256: str


def check_count(count: int) -> None:
    """Raise Refusal(BAD_ARGUMENT) for more than a message may have."""
    if count > COUNT_LIMIT:
        raise Refusal(
            Code.BAD_ARGUMENT, f"{count} files are attached.", f"At most {COUNT_LIMIT}; pack them, or send several."
        )


def too_large(name: str, limit: int, what: str = "") -> Refusal:
    """Return the refusal of what has more bytes than may be."""
    problem = f"{name!r} {what or 'is too large'}: the limit is {limit / MIB:.3g} MiB."
    return Refusal(Code.ATTACHMENT_TOO_LARGE, problem, "Attach less, or say in the body where it is.")


def check_sizes(sizes: Mapping[str, int], limits: Limits) -> None:
    """Raise Refusal(BAD_ARGUMENT | ATTACHMENT_TOO_LARGE) for files of these sizes that no message may have."""
    check_count(len(sizes))
    for path, size in sizes.items():
        if size > limits.each:
            raise too_large(clean_name(path), limits.each)
    if sum(sizes.values()) > limits.together:
        last = clean_name(list(sizes)[-1])
        raise too_large(last, limits.together, "and those before it are too large together")


def clean_name(path: str) -> str:
    """Return the last part of a path as a name that any reader may use for a file of its own."""
    last = PurePosixPath(path.replace("\\", "/")).name
    shown = "".join(
        character
        for character in unicodedata.normalize("NFC", last)
        if unicodedata.category(character) not in _FORBIDDEN
    )
    name = " ".join(shown.split()).lstrip(".-~ ") or _NAMELESS
    stem, dot, ending = name.rpartition(".")
    return _shortened(stem, f".{ending}") if dot and stem and len(ending) < NAME_LIMIT // 4 else _shortened(name, "")


def apart(names: Iterable[str]) -> Sequence[str]:
    """Return the names, each once, whatever its case: `plan.md` and `plan-2.md`."""
    taken: set[str] = set()
    told: list[str] = []
    for name in names:
        one, number = name, 1
        while one.casefold() in taken:
            number += 1
            stem, dot, ending = name.rpartition(".")
            stem, ending = (stem, f".{ending}") if dot else (name, "")
            one = _shortened(f"{stem}-{number}", ending, keep=len(f"-{number}"))
        taken.add(one.casefold())
        told.append(one)
    return told


def media_type(name: str) -> str:
    """Return what a name's ending says that it is."""
    kind, encoding = _TYPES.guess_type(name, strict=True)
    return UNKNOWN_TYPE if kind is None or encoding is not None else kind


def text(content: bytes) -> str | None:
    """Return a content as text, if it is some: UTF-8 without a NUL."""
    if b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def pick(attachments: Sequence[Attachment], name: str) -> Attachment:
    """Return the one of that name. Raises Refusal(UNKNOWN_ATTACHMENT)."""
    wanted = unicodedata.normalize("NFC", name)
    for each in attachments:
        if each.name == wanted:
            return each
    there = ", ".join(repr(each.name) for each in attachments)
    hint = f"It has {there}." if attachments else "It has none."
    raise Refusal(Code.UNKNOWN_ATTACHMENT, f"No attachment {name[:NAME_LIMIT]!r} in this message.", hint)


def _shortened(stem: str, ending: str, keep: int = 0) -> str:
    """Cut the stem, but for what it ends with, until the name is short enough."""
    while len(stem) + len(ending) > NAME_LIMIT or len((stem + ending).encode()) > _NAME_BYTES:
        cut = len(stem) - keep - 1
        stem = stem[:cut] + stem[cut + 1 :]
    return stem + ending
