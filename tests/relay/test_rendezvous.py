"""One store, one office: how it is found, started, and what it inherits of its starter (nothing)."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mcp_mailbox import frames, machine, rendezvous

from .world import ROOT

if TYPE_CHECKING:
    from .world import World


def modes(home: Path) -> dict[str, int]:
    return {
        path.name: stat.S_IMODE(path.lstat().st_mode) for path in home.iterdir() if not path.name.startswith("tiny")
    }


def test_the_office_survives_its_starters_process_group_and_tree(world: World) -> None:
    host = world.host(start_new_session=True)
    host.ask("echo")
    office = world.office_pid()
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(host.pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    assert str(office) not in children
    os.killpg(host.pid, signal.SIGKILL)
    assert host.wait() == -signal.SIGKILL
    assert world.host().ask("echo", 1) == 1
    assert world.office_pid() == office
    assert len(world.journal("start")) == 1


def test_the_office_keeps_nothing_of_the_host_that_started_it(world: World, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as secret:
        host = world.host(
            pass_fds=[secret.fileno()],
            cwd=tmp_path,
            env={
                "CLAUDE_CODE_MESSAGING_TOKEN": "t", "MCP_MAILBOX_TOKEN": "t", "MCP_MAILBOX_NAME": "bob",
                "LC_ALL": "C.UTF-8", "MCP_MAILBOX_LEASE": "9", "HTTPS_PROXY": "http://p",
            },
        )  # fmt: skip
        host.ask("echo")
    proc = Path("/proc") / str(world.office_pid())
    held = [str(link.readlink()) for link in (proc / "fd").iterdir()]
    # Of its loop's own pipes it holds both ends, of its host's it would hold one.
    assert not [path for path in held if "secret" in path or (path.startswith("pipe:") and held.count(path) == 1)]
    assert (proc / "cwd").readlink() == Path("/")
    assert os.getsid(world.office_pid()) not in (os.getsid(0), os.getsid(host.pid))
    environment = dict(pair.split("=", 1) for pair in (proc / "environ").read_text().split("\0") if pair)
    assert environment == {
        "HOME": str(world.directory),
        "PATH": "/usr/bin:/bin",
        "MCP_MAILBOX_HOME": str(world.home),
        "MCP_MAILBOX_LEASE": "9",
        "LC_ALL": "C.UTF-8",
    }
    # What is the connection's own travels in the hello instead.
    assert world.journal("hello")[0]["env"] == {
        "MCP_MAILBOX_HOME": str(world.home),
        "MCP_MAILBOX_TOKEN": "t",
        "MCP_MAILBOX_NAME": "bob",
        "MCP_MAILBOX_LEASE": "9",
    }


@pytest.mark.parametrize("umask", [0, 0o077])
@pytest.mark.parametrize("transport", ["", "tcp"])
def test_every_file_is_the_owners_alone_whatever_the_umask(world: World, umask: int, transport: str) -> None:
    host = world.host(umask=umask, env={"MCP_MAILBOX_TRANSPORT": transport} if transport else {})
    host.ask("echo")
    assert stat.S_IMODE(world.home.stat().st_mode) == 0o700
    assert set(modes(world.home).values()) == {0o600}
    assert ("office.sock" in modes(world.home)) != bool(transport)


def test_a_home_that_others_may_read_is_tightened(world: World) -> None:
    world.home.mkdir(mode=0o755)
    world.home.chmod(0o755)
    (world.home / "office.log").touch(mode=0o644)
    world.host().ask("echo")
    assert stat.S_IMODE(world.home.stat().st_mode) == 0o700
    assert modes(world.home)["office.log"] == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make another user's directory")
def test_another_users_home_is_refused(world: World) -> None:
    world.home.mkdir()
    os.chown(world.home, 12345, -1)
    error = world.host().ask("echo")
    assert error["data"] == {"code": "home_unusable"}
    assert "MCP_MAILBOX_HOME" in error["message"]


def test_a_home_that_cannot_be_made_is_refused_with_a_hint(world: World) -> None:
    (world.directory / "file").touch()
    error = world.host(env={"MCP_MAILBOX_HOME": str(world.directory / "file" / "h")}).ask("echo")
    assert error["data"] == {"code": "home_unusable"}


def test_a_home_that_is_a_file_is_refused_and_left_as_it_is(world: World) -> None:
    file = world.directory / "file"
    file.touch(mode=0o644)
    error = world.host(env={"MCP_MAILBOX_HOME": str(file)}).ask("echo")
    assert error["data"] == {"code": "home_unusable"}
    assert str(file) in error["message"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_a_long_path_gets_a_short_private_socket(world: World) -> None:
    world.home = world.directory / ("long" * 30) / "h"
    host = world.host()
    assert host.ask("echo", 1) == 1
    endpoint = (world.home / "office.endpoint").read_text().split()[1]
    assert Path(endpoint).parent == Path(f"/tmp/mcp-mailbox-{os.getuid()}")
    assert stat.S_IMODE(Path(endpoint).parent.stat().st_mode) == 0o700
    world.kill_office(signal.SIGTERM)
    assert not Path(endpoint).exists()


def test_without_unix_sockets_a_token_opens_the_loopback_port(world: World) -> None:
    tcp = {"MCP_MAILBOX_TRANSPORT": "tcp"}
    host = world.host(env=tcp)
    assert host.ask("echo", 1) == 1
    assert (world.home / "office.endpoint").read_text().startswith("tcp ")
    hello = frames.hello({"relay": "a", "version": "0", "epoch": "1", "replay": "0", "token": "wrong"})
    assert world.talk(hello).startswith(b"x forbidden ")
    assert world.talk(b"s wrong\n").startswith(b"x forbidden ")
    assert world.talk(b"q\n").startswith(b"x forbidden ")
    assert host.ask("echo", 2) == 2
    assert len(world.journal("hello")) == 1


def test_a_port_that_a_killed_office_left_behind_gets_no_token(world: World) -> None:
    tcp = {"MCP_MAILBOX_TRANSPORT": "tcp"}
    world.host(env=tcp).ask("echo")
    world.hosts.pop().end()
    world.kill_office()
    port = int((world.home / "office.endpoint").read_text().split()[1])
    with socket.create_server(("127.0.0.1", port)) as stranger:
        assert world.host(env=tcp).ask("echo", 1) == 1
        stranger.setblocking(False)
        with pytest.raises(BlockingIOError):
            stranger.accept()


def test_a_stale_socket_is_cleaned_up_by_the_next_office(world: World) -> None:
    host = world.host()
    host.ask("echo")
    world.kill_office()
    assert (world.home / "office.sock").exists()
    assert host.ask("echo", 1) == 1


def test_an_office_started_beside_another_leaves_and_touches_nothing(world: World) -> None:
    host = world.host()
    host.ask("echo")
    assert world.office().wait(15) == 0
    assert host.ask("echo", 1) == 1
    assert len(world.journal("start")) == 1


def test_an_office_whose_home_was_replaced_leaves_its_successor_alone(world: World) -> None:
    world.host().ask("echo")
    old = world.office_pid()
    world.home.rename(world.directory / "removed")
    new = world.host()
    new.ask("echo")
    os.kill(old, signal.SIGTERM)
    world.office_ended(old)
    assert (world.home / "office.sock").exists()
    assert world.host().ask("echo", 1) == 1


def test_the_store_is_found_from_configuration_or_home_never_from_xdg() -> None:
    assert machine.home({"HOME": "/h", "XDG_DATA_HOME": "/x", "XDG_RUNTIME_DIR": "/x"}) == "/h/.mcp-mailbox"
    assert machine.home({"HOME": "/h", "MCP_MAILBOX_HOME": "/s/"}) == "/s"
    assert machine.home({}).endswith("/.mcp-mailbox")


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("0.1.0", "0.2.0"), ("0.9.0", "0.10.0"), ("1.0rc1", "1.0"), ("1.0.dev3", "1.0"), ("1.0", "1.0.1"),
        ("1.0", "1.0.post1"), ("1.0a1", "1.0b1"), ("", "0.1"),
        ("1.0rc2", "1.0rc10"), ("1.0.post2", "1.0.post10"), ("1.0.dev9", "1.0.dev10"), ("1.0rc1.dev2", "1.0rc1.dev10"),
    ],
)  # fmt: skip
def test_versions_are_ordered_as_people_mean_them(older: str, newer: str) -> None:
    assert rendezvous.version_key(older) < rendezvous.version_key(newer)


def test_equal_versions_are_equal() -> None:
    assert rendezvous.version_key("1.0") == rendezvous.version_key("1.0.0") == rendezvous.version_key("1+local")


FORBIDDEN = (
    "json", "re", "subprocess", "pathlib", "typing", "dataclasses", "enum", "logging", "threading", "asyncio", "socket",
    "selectors", "signal", "contextlib", "collections", "functools", "anyio", "mcp", "pydantic",
)  # fmt: skip


def test_the_relay_imports_nothing_that_costs(world: World) -> None:
    """While it works; failures may."""
    code = "import mcp_mailbox.relay as r; s = r.Relay(None, 0, 1); import sys; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        env=world.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(FORBIDDEN) & set(run.stdout.split()) == set()


def test_a_working_relay_has_imported_nothing_that_costs(world: World) -> None:
    """The same after a whole conversation, as -X importtime reports it."""
    world.host().ask("echo")
    process = subprocess.run(
        [sys.executable, "-S", "-P", "-X", "importtime", "-c", world.code()],
        input=b'{"id":1,"method":"echo"}\n', env=world.environment(), capture_output=True, check=True,
    )  # fmt: skip
    assert b'"id": 1' in process.stdout
    imported = {line.rpartition(b"|")[2].strip().decode() for line in process.stderr.splitlines()}
    assert "_socket" in imported
    assert set(FORBIDDEN) & imported == set()
