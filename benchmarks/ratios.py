"""From alternating measurements to rows of the table. What is measured is not known here."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

BLOCKS = 10
"""Pieces of a series whose own ratios show how far to trust the whole."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `low` and `high` are the 10th and 90th percentile of the pieces' values."""

    name: str
    value: float
    low: float
    high: float
    bar: float | None = None
    aim: float | None = None
    unit: str = "x"
    smaller_is_better: bool = True
    raw: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Say how the value stands to bar and aim."""
        if self.aim is not None and self._within(self.aim):
            return "aim"
        if self.bar is not None:
            return "bar" if self._within(self.bar) else "ABOVE"
        return ""

    def _within(self, limit: float) -> bool:
        return self.value <= limit if self.smaller_is_better else self.value >= limit

    def show(self) -> str:
        """Return the row as text."""
        bar, aim = (f"{limit:g}" if limit is not None else "" for limit in (self.bar, self.aim))
        spread = f"{self.low:.2f} - {self.high:.2f}"
        return f"{self.name:58} {self.value:8.2f} {self.unit:3} {spread:>15} {bar:>6} {aim:>6}  {self.verdict}"

    def as_json(self) -> dict[str, Any]:
        """Return the row for programs."""
        return asdict(self) | {"verdict": self.verdict}


HEAD = f"{'':58} {'value':>8} {'':3} {'10 - 90 %':>15} {'bar':>6} {'aim':>6}"


@dataclass(slots=True)
class Pair:
    """Alternating measurements in seconds."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def row(
        self,
        name: str,
        quantile: float = 0.5,
        bar: float | None = None,
        aim: float | None = None,
    ) -> Row:
        """Return the quantile of ours over the median of theirs."""

        def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
            return percentile(ours, quantile) / statistics.median(theirs)

        pieces = [ratio(*piece) for piece in zip(_pieces(self.ours), _pieces(self.theirs), strict=True)]
        raw = {"ours_ms": 1000 * percentile(self.ours, quantile), "theirs_ms": 1000 * statistics.median(self.theirs)}
        value = ratio(self.ours, self.theirs)
        return Row(name, value, percentile(pieces, 0.1), percentile(pieces, 0.9), bar, aim, raw=raw)


def alternate(times: int, ours: Callable[[], float], theirs: Callable[[], float]) -> Pair:
    """Take each measurement so often, in turns; each goes first as often as the other."""
    pair = Pair()
    for turn in range(times):
        if turn % 2:
            pair.theirs.append(theirs())
            pair.ours.append(ours())
        else:
            pair.ours.append(ours())
            pair.theirs.append(theirs())
    return pair


def percentile(values: Sequence[float], part: float) -> float:
    """Return the nearest-rank percentile; `part` is between 0 and 1."""
    ordered = sorted(values)
    return ordered[round(part * (len(ordered) - 1))]


def _pieces(values: Sequence[float]) -> list[Sequence[float]]:
    size = max(1, len(values) // BLOCKS)
    return [values[at : at + size] for at in range(0, size * min(BLOCKS, len(values)), size)]
