"""A relay rings its host by what that gave it, and nobody else, and never waits for it."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from base64 import b64encode
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mcp_mailbox import frames

from .door import TOKEN, Door
from .opencode import OpenCode
from .world import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .world import World


@pytest.fixture
def door(world: World) -> Iterator[Door]:
    with closing(Door(world.directory / "door")) as one:
        yield one


@pytest.fixture
def full(world: World) -> Iterator[Door]:
    """One whose queue has room for one caller, and that one is there."""
    with closing(Door(world.directory / "full", backlog=0)) as one, closing(socket.socket(socket.AF_UNIX)) as filling:
        filling.connect(str(one.path))
        yield one


def test_a_host_is_told_behind_its_token_what_the_office_says(world: World, door: Door) -> None:
    host = world.host(env=door.environment)
    assert host.ask("ring", ["claude", '{"type":"user"}']) == "rung"
    assert door.heard() == [{"type": "auth", "token": TOKEN}, {"type": "user"}]


def test_the_office_learns_that_there_is_a_bell_and_not_what_rings_it(world: World, door: Door) -> None:
    host = world.host(env=door.environment)
    host.ask("ring", ["claude", "{}"])
    assert world.journal("hello")[0]["bells"] == ["claude", "codex", "opencode"]
    kept = b"".join(path.read_bytes() for path in world.home.iterdir() if stat.S_ISREG(path.stat().st_mode))
    assert TOKEN.encode() not in kept
    assert str(door.path).encode() not in kept


def test_in_a_clean_environment_nothing_is_rung(world: World) -> None:
    """The socket of a host that happens to run elsewhere on this machine is never looked for."""
    host = world.host()
    assert host.ask("ring", ["claude", "{}"]) == "failed this host has no such bell"
    assert world.journal("hello")[0]["bells"] == ["codex", "opencode"]


@pytest.mark.parametrize("half", ["CLAUDE_CODE_MESSAGING_SOCKET", "CLAUDE_CODE_MESSAGING_TOKEN"])
def test_half_of_what_it_takes_is_no_bell(world: World, door: Door, half: str) -> None:
    host = world.host(env={half: door.environment[half]})
    assert host.ask("ring", ["claude", "{}"]) == "failed this host has no such bell"


def test_an_office_started_by_a_relay_has_nothing_of_its_hosts_bell(world: World, door: Door) -> None:
    world.host(env=door.environment).ask("echo")
    assert b"CLAUDE" not in Path(f"/proc/{world.office_pid()}/environ").read_bytes()


@pytest.mark.parametrize("word", ["off", "OFF", "no", "0", "false"])
def test_a_host_may_ask_for_silence(world: World, door: Door, word: str) -> None:
    host = world.host(env={**door.environment, "MCP_MAILBOX_DOORBELL": word})
    assert host.ask("ring", ["claude", "{}"]) == "failed this host has no such bell"
    assert world.journal("hello")[0]["bells"] == []


def test_a_host_whose_socket_is_gone_is_said_to_be(world: World, door: Door) -> None:
    host = world.host(env=door.environment)
    host.ask("echo")
    door.close()
    assert host.ask("ring", ["claude", "{}"]) == "failed connection refused"
    door.path.unlink()
    assert host.ask("ring", ["claude", "{}"]) == "failed no such file or directory"


def test_a_host_that_takes_nothing_does_not_keep_its_relay_from_its_work(world: World, full: Door) -> None:
    host = world.host(env=full.environment)
    host.ask("echo")
    ringing = host.send("ring", ["claude", "{}"])
    for number in range(50):  # one after another: if it did nothing else as long as it rings, the ring's end came first
        assert host.ask("echo", number) == number
    late = host.line()
    assert (late["id"], late["result"]) == (ringing, "failed the host did not take it in time")


def test_a_host_that_is_slow_to_accept_is_rung_as_soon_as_it_does(world: World, full: Door) -> None:
    host = world.host(env=full.environment)
    host.ask("echo")
    host.send("ring", ["claude", "{}"])
    host.ask("echo")
    full.socket.accept()[0].close()
    assert len(full.heard()) == 2
    assert host.line()["result"] == "rung"


def test_a_host_that_accepts_and_does_not_read_is_given_up(world: World, door: Door) -> None:
    host = world.host(env=door.environment)
    text = "x" * 1_000_000
    assert host.ask("ring", ["claude", text]) == "failed the host did not take it in time"
    assert host.ask("echo", 1) == 1


def test_a_token_that_would_break_the_line_is_not_written(world: World, door: Door) -> None:
    environment = {**door.environment, "CLAUDE_CODE_MESSAGING_TOKEN": 'a"}\n{"type":"user"'}
    assert world.host(env=environment).ask("ring", ["claude", "{}"]) == "failed the host's token cannot be written"


def test_what_becomes_of_a_ring_is_not_told_to_an_office_that_did_not_ask(world: World, full: Door) -> None:
    host = world.host(env=full.environment)
    host.ask("initialize")
    host.send("ring", ["claude", "{}"])
    world.wait_for("frame", kind="m", serial=2)
    world.kill_office(signal.SIGKILL)
    world.wait_for("hello", 2)
    # The line was asked again: the new office rings too, and gets an answer of its own.
    assert host.line()["result"] == "failed the host did not take it in time"
    assert host.ask("echo", 1) == 1


def test_codex_is_rung_by_its_own_program(world: World) -> None:
    program = world.directory / "codex"
    said = world.directory / "said"
    program.write_text(f'#!/bin/sh\nprintf "%s|" "$@" "$CODEX_HOME" > {said}\n')
    program.chmod(0o755)
    environment = {"PATH": f"{world.directory}:/usr/bin:/bin", "CODEX_HOME": "/a/home"}
    host = world.host(env=environment)
    assert host.ask("ring", ["codex", "thread-1 Mail at 12:00:00: $(1) new"]) == "rung"
    assert said.read_text() == "queue|--thread|thread-1|--message|Mail at 12:00:00: $(1) new|/a/home|"


@pytest.mark.parametrize(
    ("script", "outcome"),
    [("exit 3", "failed codex queue ended with 3"), ("kill -9 $$", "failed codex queue ended with -9")],
)
def test_a_program_that_fails_is_reaped_and_said_to_have(world: World, script: str, outcome: str) -> None:
    program = world.directory / "codex"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    host = world.host(env={"PATH": f"{world.directory}:/usr/bin:/bin"})
    assert host.ask("ring", ["codex", "thread text"]) == outcome
    listed = subprocess.run(["ps", "--ppid", str(host.pid), "-o", "stat="], capture_output=True, text=True, check=False)
    assert "Z" not in listed.stdout


def test_a_program_that_hangs_is_ended_and_the_relay_works_on(world: World) -> None:
    program = world.directory / "codex"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    patches: dict[str, object] = {"__import__('mcp_mailbox.ringing').ringing.SPAWN_SECONDS": 0.5}
    host = world.host(env={"PATH": f"{world.directory}:/usr/bin:/bin"}, patches=patches)
    ringing = host.send("ring", ["codex", "thread text"])
    assert host.ask("echo", 1) == 1
    late = host.line()
    assert (late["id"], late["result"]) == (ringing, "failed codex queue did not end in time")


def test_without_codex_it_is_said(world: World) -> None:
    assert world.host().ask("ring", ["codex", "thread text"]) == "failed no program codex is found"


@pytest.fixture
def opencode() -> Iterator[OpenCode]:
    with closing(OpenCode()) as one:
        yield one


def test_opencode_is_asked_at_the_port_that_it_listens_at(world: World, opencode: OpenCode) -> None:
    host = world.host(env=opencode.environment)
    opencode.session("ses_1", "/", 1)
    said = host.ask("ring", ["opencode", "GET /session/ses_1"])
    assert said.startswith("rung 200 { ")
    assert host.ask("ring", ["opencode", "GET /session/ses_2"]).startswith("rung 404 ")
    assert host.ask("ring", ["opencode", 'POST /session/ses_1/prompt_async {"parts": []}']).strip() == "rung 204"
    assert opencode.prompted() == ("ses_1", {"parts": []})
    assert opencode.authorizations == [None] * 3


def test_a_password_of_opencode_goes_with_each_question_and_not_to_the_office(world: World, opencode: OpenCode) -> None:
    host = world.host(env={**opencode.environment, "OPENCODE_SERVER_PASSWORD": "pass-4711"})
    host.ask("ring", ["opencode", "GET /session/status"])
    assert opencode.authorizations == ["Basic " + b64encode(b"opencode:pass-4711").decode()]
    assert b"4711" not in Path(f"/proc/{world.office_pid()}/environ").read_bytes()
    kept = b"".join(path.read_bytes() for path in world.home.iterdir() if stat.S_ISREG(path.stat().st_mode))
    assert b"pass-4711" not in kept


def test_nothing_but_sessions_is_asked_of_opencode(world: World, opencode: OpenCode) -> None:
    host = world.host(env=opencode.environment)
    for line in ("GET /config", "DELETE /session/ses_1", "GET http://example.org/session"):
        assert host.ask("ring", ["opencode", line]) == "failed that is nothing to ask opencode"
    assert opencode.asked == []


def test_an_opencode_that_did_not_start_the_relay_is_not_asked(world: World, opencode: OpenCode) -> None:
    """Its number is inherited by whatever a shell of its starts, and there long after it has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        host = world.host(env={"OPENCODE_PID": str(stranger.pid)})
        said = host.ask("ring", ["opencode", "GET /session/status"])
        stranger.kill()
    assert said == "failed no process opencode has started this relay"
    assert opencode.asked == []


def test_an_opencode_without_a_port_is_said_to_have_none(world: World) -> None:
    host = world.host(env={"OPENCODE_PID": str(os.getpid())})
    assert host.ask("ring", ["opencode", "GET /session/status"]) == "failed opencode has no port open"


def test_an_opencode_that_does_not_answer_is_given_up(world: World) -> None:
    patches: dict[str, object] = {"__import__('mcp_mailbox.ringing').ringing.ANSWER_SECONDS": 0.5}
    with closing(socket.create_server(("127.0.0.1", 0))):
        host = world.host(env={"OPENCODE_PID": str(os.getpid())}, patches=patches)
        ringing = host.send("ring", ["opencode", "GET /session/status"])
        assert host.ask("echo", 1) == 1
        late = host.line()
    assert (late["id"], late["result"]) == (ringing, "failed the host did not answer in time")


def test_ringing_imports_nothing_that_costs(world: World) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import mcp_mailbox.ringing; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], env=world.environment(), capture_output=True, text=True, check=True
    )
    assert {"json", "re", "subprocess", "socket", "selectors", "contextlib", "typing"} & set(
        run.stdout.split()
    ) == set()


def test_a_relay_that_is_never_asked_to_ring_does_not_load_what_rings(world: World, door: Door) -> None:
    host = world.host(env=door.environment)
    host.ask("echo")
    code = "import mcp_mailbox.relay, sys; print('mcp_mailbox.ringing' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        env=world.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout == "False\n"


def test_an_older_relay_is_not_asked_to_ring(world: World) -> None:
    """It says of no bell in its hello, and knows no such frame."""
    world.host().ask("echo")
    fields = {"relay": "old", "version": "0.0.1", "program": "x", "epoch": "1", "replay": "0"}
    world.talk(frames.hello(fields))
    assert world.wait_for("hello", relay="old")[0]["bells"] == []
