"""Says what was checked: one line a check, with what was seen.

Knows nothing of hosts or mail.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@dataclass
class Report:
    passed: int = 0
    failed: int = 0
    sections: int = 0

    def section(self, title: str) -> None:
        self.sections += 1
        say(f"\n{self.sections}. {title}")

    def check(self, claim: str, holds: bool, seen: object) -> bool:
        """Judge, and show what was seen, on one line whatever its form."""
        if holds:
            self.passed += 1
        else:
            self.failed += 1
        say(f"  {'ok    ' if holds else 'FAILED'}  {claim}: {' '.join(str(seen).split())}")
        return holds

    def note(self, text: str) -> None:
        """Tell what was seen without judging it."""
        say(f"  seen    {text}")

    def close(self) -> int:
        say(f"\n{self.passed} passed, {self.failed} failed")
        return 1 if self.failed or not self.passed else 0
