"""A disk that is full before the post office is started: what can be read, and what is said."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_commands import INITIALIZE, Shell

_BYTES = 8 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Shell]:
    """A person whose home is a small disk of its own, with a message in the mailbox and no post office."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_BYTES}", "tmpfs", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only who may mount has a small disk")
    shell = Shell(disk)
    shell.environment["MCP_MAILBOX_ADDRESS"] = "alice"
    try:
        assert shell.run("inbox").returncode == 1
        assert shell.run("send", "alice", "-b", "before").returncode == 0
        shell.run("stop")
        yield shell
    finally:
        (disk / "fill").unlink(missing_ok=True)
        shell.run("stop")
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _fill(shell: Shell) -> None:
    with (shell.home / "fill").open("ab", buffering=0) as opened, contextlib.suppress(OSError):
        while True:
            opened.write(bytes(4096))


def test_mail_can_be_read_however_often_it_is_started_on_a_full_disk(small: Shell) -> None:
    _fill(small)
    for _ in range(3):
        read = small.run("inbox")
        assert "before" in read.stdout, read.stderr
        assert "The disk is full; nothing was stored" in small.run("send", "alice", stdin="x" * 200_000).stderr
        assert small.run("stop").returncode == 0


@pytest.mark.parametrize("left", [0, 8192, 30_000])
def test_where_there_is_no_room_to_start_each_try_says_that_the_disk_is_full(small: Shell, left: int) -> None:
    spare = small.home / ".mcp-mailbox/spare"
    with spare.open("ab") as opened:
        opened.truncate(left)
    _fill(small)
    for _ in range(3):
        shown = small.run("inbox")
        assert (shown.returncode, shown.stdout) == (4, "")
        assert "The disk " in shown.stderr
        assert "is full" in shown.stderr
        assert "Free some space" in shown.stderr
    answered = json.loads(small.run(stdin=INITIALIZE + "\n").stdout)
    assert answered["error"]["data"] == {"code": "store_full"}
    assert "Free some space" in answered["error"]["message"]
    (small.home / "fill").unlink()
    small.run("stop")  # one that could not open says so for two seconds
    assert "before" in small.run("inbox").stdout
