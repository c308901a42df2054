"""A process of its own that sends messages with attachments and kills itself at one of its steps.

    python -m tests.engines.attacher STORE STEP

A step is whatever changes a file or opens one beside the store; SIGKILL comes before it is done. Prints the number of
each message once it is acknowledged; without so many steps it ends with 0.
"""

from __future__ import annotations

import os
import signal
import sys
from io import BytesIO
from pathlib import Path

import anyio

from mcp_mailbox.addresses import Address
from mcp_mailbox.attachment import Attachment
from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.store import Origin, Submission

STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.utime"}
BOX = Address("box", "default")
MESSAGES = 2


def content(number: int) -> bytes:
    """What the message of that number has attached; all of them have the first part in common."""
    return b"%d " % number * 100_000


async def send(path: Path) -> None:
    """Send some messages."""
    async with open_store(path, SystemClock()) as store:
        await store.open(BOX, "test", Profile(), Origin("r", "open"))
        for number in range(MESSAGES):
            async with store.attaching() as tray:
                attachments = []
                for name, source in (("own", content(number)), ("same", b"same")):
                    kept = await tray.keep(BytesIO(source).read, 1 << 30)
                    assert kept is not None
                    attachments.append(Attachment(name, "text/plain", kept.size, kept.sha256))
                draft = Draft(("box",), f"{number}", key=f"{number}", attachments=tuple(attachments))
                await store.accept(Submission(BOX, [BOX], draft, Origin("r", f"{number}")))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


def main(path: Path, last: int) -> None:
    """Send until then."""
    steps = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal steps
        if (event in STEPS and f"{path}.attachments" in str(arguments[0])) or event in {"os.chmod", "os.utime"}:
            steps += 1
            if steps == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    anyio.run(send, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
