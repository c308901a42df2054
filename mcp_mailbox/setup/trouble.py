"""Why a host's file stays as it is."""

from __future__ import annotations


class Unfit(Exception):  # noqa: N818 - an answer about somebody's file, not an error of ours
    """The file stays untouched: `problem` says why, `hint` what to do instead."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(f"{problem} {hint}".strip())
        self.problem = problem
        self.hint = hint
