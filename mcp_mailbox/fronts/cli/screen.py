"""What is printed: for a person at a terminal coloured and fitted to its width, for a pipe plain, aligned and whole.

`rich` costs 35 ms, so only a terminal pays for it. Whatever comes from mail has been made visible before (`shown`);
nothing here is read as markup.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mcp_mailbox.fronts.cli import shown

if TYPE_CHECKING:
    from rich.console import Console

_GAP = 2
_LEAST = 16
"""Columns that are left for the column that takes the rest; before it gets less, others are left out."""


class Column(NamedTuple):
    """A column: `rest` takes what the others leave and is cut; `leave` is the order in which columns are left out."""

    title: str
    rest: bool = False
    right: bool = False
    leave: int = 0
    style: str = ""


class Cell(NamedTuple):
    """Text that has been made visible, and how a terminal colours it."""

    text: str
    style: str = ""


Row = Sequence[str | Cell]


def is_terminal() -> bool:
    """Whether a person sees what is printed."""
    return sys.stdout.isatty()


def table(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print rows under their titles."""
    cells = [[each if isinstance(each, Cell) else Cell(each) for each in row] for row in rows]
    widths = [
        max(shown.width(column.title), *(shown.width(row[number].text) for row in cells), 0)
        for number, column in enumerate(columns)
    ]
    if is_terminal():
        _fitted(columns, cells, widths)
        return
    for row in [[Cell(column.title) for column in columns], *cells]:
        padded = [
            _pad(cell.text, width, right=column.right) for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        print((" " * _GAP).join(padded).rstrip())  # noqa: T201 - a command line prints


def _pad(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - shown.width(text))
    return space + text if right else text + space


def _fitted(columns: Sequence[Column], cells: Sequence[Sequence[Cell]], widths: Sequence[int]) -> None:
    from rich.table import Table  # noqa: PLC0415 - for people only
    from rich.text import Text  # noqa: PLC0415

    out = console()
    kept = _kept(columns, widths, out.width)
    taken = sum(widths[number] + _GAP for number in kept if not columns[number].rest)
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for number in kept:
        column = columns[number]
        width = max(min(widths[number], out.width - taken), 1) if column.rest else widths[number]
        made.add_column(
            column.title,
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if column.right else "left",
            width=min(width, out.width),
            style=column.style,
        )
    for row in cells:
        made.add_row(*(Text(row[number].text, row[number].style) for number in kept))
    out.print(made)


def _kept(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """Return which columns there is room for."""
    kept = list(range(len(columns)))

    def needed() -> int:
        return sum((min(widths[n], _LEAST) if columns[n].rest else widths[n]) + _GAP for n in kept)

    while needed() - _GAP > room:
        spare = [number for number in kept if columns[number].leave]
        if not spare:
            break
        kept.remove(min(spare, key=lambda number: columns[number].leave))
    return kept


def fields(pairs: Sequence[tuple[str, str]]) -> None:
    """Print what something has, a line each."""
    wide = max(len(name) for name, _ in pairs) + 1
    if not is_terminal():
        for name, value in pairs:
            print(f"{name + ':':<{wide}} {value}")  # noqa: T201
        return
    from rich.text import Text  # noqa: PLC0415

    out = console()
    for name, value in pairs:
        out.print(Text.assemble((f"{name + ':':<{wide}} ", "bold"), value), soft_wrap=True)


def line(*parts: str | Cell, whole: bool = False) -> None:
    """Print one line at once: cut to the terminal's width, unless it is to be `whole`."""
    cells = [each if isinstance(each, Cell) else Cell(each) for each in parts]
    if not is_terminal():
        print((" " * _GAP).join(cell.text for cell in cells), flush=True)  # noqa: T201
        return
    from rich.text import Text  # noqa: PLC0415

    out = console()
    text = Text(" " * _GAP).join([Text(cell.text, cell.style) for cell in cells])
    if whole:
        out.print(text, soft_wrap=True)
    else:
        out.print(text, no_wrap=True, overflow="ellipsis")


def text(lines: Sequence[str], indent: str = "") -> None:
    """Print lines that have been made visible, as they are."""
    for each in lines:
        print(f"{indent}{each}")  # noqa: T201


def note(said: str) -> None:
    """Say something beside the answer, which is what a program reads."""
    print(said, file=sys.stderr)  # noqa: T201


@contextlib.contextmanager
def progress(what: str, *, beside: bool = False) -> Iterator[Callable[[float, float], None]]:
    """Show how far it is, to a person; yield what to call with how much is done and how much there is.

    With `beside` the answer itself is printed meanwhile: then nothing is shown where both would go to one terminal.
    """
    if not sys.stderr.isatty() or (beside and is_terminal()):
        yield lambda *_: None
        return
    from rich.console import Console  # noqa: PLC0415 - 50 ms, for people only
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total or 1)


def console() -> Console:
    """Return the terminal, without colour when nobody wants any (https://no-color.org)."""
    from rich.console import Console  # noqa: PLC0415

    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return Console(highlight=False, markup=False, emoji=False, color_system=None if plain else "auto")
