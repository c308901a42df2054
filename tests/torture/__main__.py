"""The command line: `python -m tests.torture --help`."""

from __future__ import annotations

import argparse
import signal
import sys

from tests.torture import plan, report
from tests.torture.report import say
from tests.torture.run import WAYS, Options, run


def main() -> int:
    options = _options()
    # Without this a terminated run would leave its processes running.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if options.mutants is not None:
        from tests.torture import mutants  # noqa: PLC0415 - a run needs none

        return mutants.catch_all(options.mutants.split(",") if options.mutants else [], options.seed)
    chosen = Options(
        seed=options.seed,
        seconds=options.seconds,
        kills=options.kills,
        senders=options.senders,
        readers=options.readers,
        mailboxes=options.mailboxes,
        lease=options.lease,
        pace=options.pace,
        over=options.over,
        faults=tuple(options.faults.split(",")) if options.faults else (),
        keep=options.keep,
    )
    unknown = set(chosen.faults) - set(plan.FAULTS)
    if unknown:
        say(f"No fault {', '.join(sorted(unknown))}. There are {', '.join(plan.FAULTS)}.")
        return 2
    say(f"seed         {chosen.seed}")
    outcome = run(chosen)
    report.show(outcome)
    if chosen.keep:
        say(f"histories: {outcome.directory}")
    return 0 if outcome.holds else 1


def _options() -> argparse.Namespace:
    faults = "\n".join(f"  {name:<8} {what}" for name, what in plan.FAULTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture",
        description="Kill post offices, servers, relays and hosts under load, and check what the hosts were told.",
        epilog=f"faults:\n{faults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Options()
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--seconds", type=float, default=default.seconds, help="of load; more if kills are left")
    parser.add_argument("--kills", type=int, default=default.kills)
    parser.add_argument("--senders", type=int, default=default.senders)
    parser.add_argument("--readers", type=int, default=default.readers, help="they share the mailboxes")
    parser.add_argument("--mailboxes", type=int, default=default.mailboxes)
    parser.add_argument("--lease", type=float, default=default.lease, help="seconds")
    parser.add_argument("--pace", type=float, default=default.pace, help="mean seconds between a sender's letters")
    parser.add_argument("--over", choices=list(WAYS), default=default.over, help="how hosts connect")
    parser.add_argument("--faults", default=",".join(default.faults), help="which, with commas; all by default")
    parser.add_argument("--keep", action="store_true", help="keep the home and the histories")
    parser.add_argument(
        "--mutants",
        nargs="?",
        const="",
        metavar="NAMES",
        help="plant bugs into copies of the program, all or these, and show which invariant catches each",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
