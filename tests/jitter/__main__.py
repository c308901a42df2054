"""The command line: `python -m tests.jitter --help`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
from pathlib import Path

SCHEDULE = Path(__file__).with_name("schedule.py")
ABOUT_LOADING = (
    "tests/cli/test_shown.py::test_a_command_that_people_wait_for_imports_nothing_heavy",
    "tests/cli/test_watch.py::test_a_hook_loads_neither_the_command_line_nor_mail_nor_the_sdk",
    "tests/relay/test_rendezvous.py",
)
"""What is about which modules a process loads: it loads those of the schedule, too."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.jitter",
        description="Play tests while each of their processes is late now and then. What fails here and not without it "
        "is a test (or a program) that takes an order for granted; or one about time itself: look first. "
        "Waiting costs nothing, so more of them fit on a machine than else: -n 8.",
        epilog="All arguments behind -- are pytest's.",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--holds", type=float, default=0.03, help="how much of what gets ready is seen late")
    parser.add_argument("--rests", type=float, default=0.005, help="how often a process does nothing for a while")
    parser.add_argument("--mean", type=float, default=0.15, help="seconds, of either")
    parser.add_argument("pytest", nargs="*", default=["-q", "-n", "8"])
    options = parser.parse_args()
    settings = (options.seed, options.holds, options.rests, options.mean)
    hook = Path(sysconfig.get_path("purelib")) / "mcp_mailbox_jitter.pth"  # what every interpreter of this one reads
    begin = f"import sys; exec(open({str(SCHEDULE)!r}).read(), {{'SETTINGS': {settings!r}, '__name__': 'schedule'}})\n"
    command = [sys.executable, "-m", "pytest", *options.pytest, *(f"--deselect={each}" for each in ABOUT_LOADING)]
    hook.write_text(begin)
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        hook.unlink()


if __name__ == "__main__":
    sys.exit(main())
