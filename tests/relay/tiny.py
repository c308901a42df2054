"""A tiny office in a process of its own, started like the real one: `python tiny.py <package directory> office`.

Everything but the mail is real. The office's environment is allow-listed, so what a test wants of it stands in
`tiny.json` in the home; what happens stands in `journal` there, one JSON object a line.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path[:0] = [sys.argv[1], str(Path(__file__).parent)]

from mcp_mailbox import __version__, machine, rendezvous  # noqa: E402 - the package that the test names


def main() -> int:
    rendezvous.leave_the_host()
    # Imported late as the real office imports its service; found through the path above.
    import tinyservice  # type: ignore[import-not-found]  # noqa: PLC0415 - see above

    home = Path(machine.home())
    wants = tinyservice.wants(home)
    if wants.get("die") == "start":
        raise SystemExit("planted: no start")
    place = rendezvous.claim(str(home), [sys.executable, "-P", *sys.argv])
    if place is None:
        tinyservice.journal(home, event="spare")
        return 0
    place.detach()
    if wants.get("die") == "imports":
        raise SystemExit("planted: a broken installation")
    tinyservice.journal(home, event="start", version=__version__, pid=os.getpid(), ppid=os.getppid())
    time.sleep(wants.get("pause", 0))  # stands for heavy imports
    code: int = tinyservice.run(place, wants)
    return code


if __name__ == "__main__":
    sys.exit(main())
