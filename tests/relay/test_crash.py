"""The office goes away while relays need it; they need not notice, nor may a host."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .world import World


def test_after_a_kill_the_same_serial_comes_again_kept_lines_first_and_the_host_sees_one_answer(world: World) -> None:
    host = world.host()
    host.ask("initialize")
    host.ask("echo")
    host.send("answer-later")
    world.wait_for("frame", kind="m", serial=3)
    world.kill_office()
    assert host.line() == {"jsonrpc": "2.0", "id": 3, "result": "later"}
    assert host.ask("echo", "next") == "next"
    # A dying process may still accept a connection, so the second office need not be the second epoch.
    [_, hello] = world.journal("hello")
    second = [frame for frame in world.frames("r", "m") if frame["epoch"] == hello["epoch"]]
    assert [(frame["kind"], frame["serial"]) for frame in second] == [("r", 1), ("r", 3), ("m", 4)]
    assert (hello["epoch"] > 1, hello["replay"], hello["resumed"]) == (True, 2, True)
    assert hello["previous"] == hello["version"]
    assert hello["relay"] == world.journal("hello")[0]["relay"]
    host.close()
    assert host.wait() == 0
    assert host.says_nothing_more()


def test_a_new_office_hears_again_what_the_host_got_from_the_old_one(world: World) -> None:
    host = world.host()
    host.ask("echo")
    world.wait_for("frame", kind="w", serial=1)
    world.kill_office()
    [_, hello] = world.wait_for("hello", 2)
    world.wait_for("frame", kind="w", serial=1, epoch=hello["epoch"])


def test_a_forgotten_line_is_not_replayed(world: World) -> None:
    host = world.host()
    host.ask("initialize")
    host.send("forget", [1])
    host.ask("echo")
    host.ask("echo")  # what was said before this answer was heard before it
    world.kill_office()
    assert world.wait_for("hello", 2)[1]["replay"] == 0


def test_a_kill_before_the_hello_is_acknowledged_is_a_reconnect(world: World) -> None:
    world.want(pause=60)
    host = world.host()
    host.send("echo", "patient")
    world.wait_for("start")
    host.is_connected()
    world.want()
    world.kill_office()
    assert host.line()["result"] == "patient"
    [hello] = world.journal("hello")
    assert (hello["epoch"] > 1, hello["previous"]) == (True, None)


def test_half_an_answer_of_a_dead_office_never_reaches_the_host(world: World) -> None:
    world.want()
    with socket.socket(socket.AF_UNIX) as listener:  # an office that dies inside a frame
        listener.bind(str(world.home / "office.sock"))
        listener.listen()
        listener.settimeout(10)
        (world.home / "office.endpoint").write_text(f"unix {world.home / 'office.sock'}\n")
        host = world.host()
        host.send("echo", "whole")
        office, _ = listener.accept()
    with office:
        said = b""
        while b"m 1 " not in said:
            said += office.recv(65536)
        office.sendall(b'h 0.0.1\na 1 {"half":')
    assert host.line()["result"] == "whole"
    [hello] = world.journal("hello")
    assert (hello["epoch"], hello["previous"], hello["replay"]) == (2, "0.0.1", 1)
    host.close()
    assert host.wait() == 0
    assert host.says_nothing_more()


def test_a_line_that_kills_every_office_is_answered_with_an_error_and_the_relay_goes_on(world: World) -> None:
    host = world.host(patches={"relay.PAUSE_SECONDS": 0.05})
    host.ask("initialize")
    error = host.ask("die")
    assert error["data"] == {"code": "office_crashes"}
    assert str(world.home / "office.log") in error["message"]
    assert host.ask("echo", "alive") == "alive"
    assert len(world.frames("m", "r")) >= 6


def test_a_request_that_waits_is_not_to_blame_for_an_office_that_is_killed_over_and_over(world: World) -> None:
    host = world.host(patches={"relay.PAUSE_SECONDS": 0.05, "relay.SERVED_SECONDS": 0.0})
    host.ask("initialize")
    host.send("hang")
    for epochs in range(1, 9):
        world.wait_for("frame", epochs, serial=2)
        world.kill_office()
    world.wait_for("frame", 9, serial=2)
    host.close()
    assert host.line()["result"] == "early"


def test_an_office_that_never_gets_up_is_reported_with_the_reason(world: World) -> None:
    world.want(die="start")
    host = world.host()
    error = host.ask("echo")
    assert error["data"] == {"code": "no_start"}
    assert "planted: no start" in error["message"]
    assert host.wait() == 1
    assert "planted: no start" in host.errors()


def test_an_office_whose_service_cannot_even_be_imported_is_reported_too(world: World) -> None:
    world.want(die="imports")
    host = world.host(patches={"relay.PAUSE_SECONDS": 0.05})
    error = host.ask("echo")
    # Reached before it died or not: that is chance, and either way the host learns where the reason stands.
    assert error["data"]["code"] in ("office_crashes", "no_start")
    assert str(world.home / "office.log") in error["message"]
    assert "planted: a broken installation" in world.log()


def test_a_store_that_cannot_be_opened_is_told_to_every_relay(world: World) -> None:
    world.want(die="open", pause=0.3)
    hosts = [world.host() for _ in range(3)]
    for host in hosts:
        assert host.ask("echo") == {
            "code": -32000,
            "message": "Restore the backup.",
            "data": {"code": "store_damaged"},
        }
        assert host.wait() == 1


def test_a_refused_relay_without_a_request_leaves_when_the_host_does(world: World) -> None:
    world.want(die="open")
    host = world.host()
    assert host.process.stderr
    assert b"Restore the backup." in host.process.stderr.readline()
    host.send_raw(b'{"method":"notifications/initialized"}\n')
    host.close()
    assert host.wait() == 1
    assert host.says_nothing_more()


def test_an_office_that_accepts_and_says_nothing_is_unreachable(world: World) -> None:
    first = world.host()
    first.ask("echo")
    os.kill(world.office_pid(), signal.SIGSTOP)
    host = world.host(patches={"relay.HELLO_SECONDS": 0.3})
    error = host.ask("echo")
    assert error["data"] == {"code": "unreachable"}
    assert "mcp-mailbox stop" in error["message"]
    assert host.wait() == 1
    os.kill(world.office_pid(), signal.SIGCONT)
    assert first.ask("echo", "on") == "on"


def test_a_lock_whose_holder_does_not_listen_is_unreachable_and_no_second_store(world: World) -> None:
    world.want()
    lock = os.open(world.home / "office.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        host = world.host(patches={"rendezvous.UNREACHABLE_SECONDS": 0.3})
        error = host.ask("echo")
    finally:
        os.close(lock)
    assert error["data"] == {"code": "unreachable"}
    assert "hub" in error["message"]
    assert world.journal("start") == []


def test_a_host_can_leave_while_its_relay_still_looks_for_the_office(world: World) -> None:
    world.want()
    lock = os.open(world.home / "office.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        host = world.host()
        host.close()
        assert host.wait(3) == 0
    finally:
        os.close(lock)


def test_twenty_relays_survive_a_kill_with_one_new_office(world: World) -> None:
    hosts = [world.host() for _ in range(20)]
    for host in hosts:
        assert host.ask("echo", "a") == "a"
    assert len(world.journal("start")) == 1
    for host in hosts:
        host.send("answer-later")
    world.wait_for("frame", 20, kind="m", serial=2)
    world.kill_office()
    for host in hosts:
        assert host.line()["result"] == "later"
    assert len(world.journal("start")) == 2
    assert world.journal("spare") == []  # started in vain
