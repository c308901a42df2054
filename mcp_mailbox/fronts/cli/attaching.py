"""Files along with mail: `--attach` reads them here, with the rights of who types, and hands the post office copies.

The post office opens no path that it is told, so whoever reaches it can attach nothing that they could not read
themselves. What is attached to a message comes back in pieces.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mcp_mailbox import rendezvous
from mcp_mailbox.fronts.cli import exits, person, screen, shown
from mcp_mailbox.fronts.cli.asking import ask, ask_content

Json = dict[str, Any]
Tell = Callable[[float, float], None]
_PIECE = 1 << 20
"""Bytes that are copied at once: also what a bar is shown from."""
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


def option(parser: argparse.ArgumentParser) -> None:
    """Add `--attach`."""
    parser.add_argument("-a", "--attach", action="append", default=[], metavar="FILE", help="a file, several times")


@contextlib.contextmanager
def handed_in(paths: Sequence[str]) -> Iterator[list[Json]]:
    """Yield what the verb `send` is told of these files; their copies go when it was sent.

    Raises rendezvous.Refused for what is no file, or too large, before anything is copied.
    """
    copies: list[Path] = []
    with contextlib.ExitStack() as stack:
        opened = [(path, _opened(stack, path)) for path in paths]
        if not opened:
            yield []
            return
        sizes = {os.path.abspath(path): os.fstat(one).st_size for path, one in opened}  # noqa: PTH100 - no links
        directory = Path(ask("place", sizes=sizes)["directory"])
        whole = sum(os.fstat(one).st_size for _, one in opened)
        try:
            with _bar("attach", whole) as tell:
                done = 0
                for path, one in opened:
                    copies.append(directory / os.urandom(16).hex())
                    done = _copy(path, one, copies[-1], done, lambda so_far: tell(so_far, whole))
            yield [{"name": path, "copied": copy.name} for (path, _), copy in zip(opened, copies, strict=True)]
        finally:
            for copy in copies:
                with contextlib.suppress(OSError):
                    copy.unlink()


def _opened(stack: contextlib.ExitStack, path: str) -> int:
    try:
        one = os.open(path, _OPEN)
    except (OSError, ValueError) as error:  # ValueError: a NUL
        why = error.strerror if isinstance(error, OSError) else "no name of a file"
        raise rendezvous.Refused("no_file", f"{path!r} cannot be attached: {why}.") from None
    stack.callback(os.close, one)
    mode = os.fstat(one).st_mode
    if stat.S_ISDIR(mode):
        raise rendezvous.Refused("no_file", f"{path!r} is a directory. Attach its files, or an archive of it.")
    if not stat.S_ISREG(mode):
        raise rendezvous.Refused("no_file", f"{path!r} is no regular file. Write it into one first.")
    return one


def _copy(path: str, one: int, copy: Path, done: int, tell: Callable[[int], None]) -> int:
    """Copy an open file; return how much has been copied with what was before."""
    began = os.fstat(one)
    left = began.st_size
    try:
        to = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(to, "wb") as file:  # noqa: PTH123 - a descriptor
            while left and (block := os.read(one, min(_PIECE, left))):
                file.write(block)
                left -= len(block)
                done += len(block)
                tell(done)
    except OSError as error:
        raise rendezvous.Refused("no_file", f"{path!r} cannot be attached: {error.strerror}.") from None
    ended = os.fstat(one)
    if left or (began.st_size, began.st_mtime_ns) != (ended.st_size, ended.st_mtime_ns):
        raise rendezvous.Refused("no_file", f"{path!r} was changed while it was read. Send again once it is written.")
    return done


def save(chosen: argparse.Namespace) -> int:
    """Write one attachment of a message to a file, or to standard output."""
    who = person.who(chosen)
    address = {"mailbox": who.get("mailbox", who.get("own")), "space": who["space"]}
    with _bar("read", 0) as tell:
        content = ask_content({**address, "id": chosen.id, "name": chosen.attachment}, tell)
    if chosen.output is not None:
        from mcp_mailbox.fronts.cli import output  # noqa: PLC0415 - as above

        with output.file(chosen.output) as file:
            file.write(content)
        _told(chosen, len(content))
    elif chosen.json:
        import base64  # noqa: PLC0415 - as above

        whole = {"id": chosen.id, "attachment": chosen.attachment, "size": len(content)}
        print(shown.json_page({**whole, "base64": base64.b64encode(content).decode()}))  # noqa: T201 - a command line prints
    elif not screen.is_terminal():
        sys.stdout.buffer.write(content)
    else:
        screen.text(shown.lines(_text(content, chosen.attachment)))
    sys.stdout.flush()
    return exits.DONE


def _told(chosen: argparse.Namespace, size: int) -> None:
    if chosen.json:
        print(shown.json_page({"file": os.path.abspath(chosen.output), "size": size}))  # noqa: T201, PTH100
    else:
        screen.note(shown.line(f"{chosen.output} has {size} bytes."))


def _text(content: bytes, name: str) -> str:
    """Return a content as text. Raises rendezvous.Refused for what a terminal cannot show."""
    try:
        if b"\0" not in content:
            return content.decode()
    except UnicodeDecodeError:
        pass
    raise rendezvous.Refused("bad_argument", f"{name!r} is no text. Say where to with -o FILE, or pipe it.")


@contextlib.contextmanager
def _bar(what: str, whole: int) -> Iterator[Tell]:
    """Show how far it is once it is worth a bar."""
    with contextlib.ExitStack() as stack:
        show: Tell | None = None

        def tell(done: float, of: float) -> None:
            nonlocal show
            if max(whole, of) > _PIECE:
                show = show or stack.enter_context(screen.progress(what))
                show(done, of)

        yield tell
