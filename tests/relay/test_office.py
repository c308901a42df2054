"""The office's process: hand-over, settings, status, stop, idle exit, log."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mcp_mailbox import __version__, frames, rendezvous

from .world import DEADLINE, ROOT

if TYPE_CHECKING:
    from .world import World


def test_a_newer_relay_takes_over_and_an_older_one_follows_without_its_host_noticing(world: World) -> None:
    old = world.host()
    old.ask("initialize")
    old.send("answer-later")
    world.wait_for("frame", kind="m", serial=2)
    newer = world.newer("99.0.0")
    new = world.host(package=newer)
    assert new.ask("echo", "new") == "new"
    assert old.line()["result"] == "later"
    assert [start["version"] for start in world.journal("start")] == [__version__, "99.0.0"]
    assert world.wait_for("closed")[0]["reason"] == "drain"
    followed = world.wait_for("hello", 2, version=__version__)[1]
    assert (followed["previous"], followed["replay"]) == (__version__, 2)
    assert old.ask("echo", 1) == 1


def test_an_old_relay_starts_the_newest_program_that_ran(world: World) -> None:
    newer = world.newer("99.0.0")
    world.host(package=newer).ask("echo")
    assert (world.home / "program").read_text().splitlines() == ["99.0.0", *world.program(newer)]
    world.kill_office()
    old = world.host()
    assert old.ask("echo", 1) == 1
    assert {start["version"] for start in world.journal("start")} == {"99.0.0"}


def test_an_old_relay_whose_newest_program_is_gone_or_broken_starts_its_own(world: World) -> None:
    world.want()
    for program in (["/nowhere/python"], ["/bin/false"]):
        (world.home / "program").write_text("\n".join(["99.0.0", *program, ""]))
        host = world.host()
        assert host.ask("echo", 1) == 1
        world.kill_office()
        host.end()
    assert {start["version"] for start in world.journal("start")} == {__version__}


def test_an_older_office_does_not_forget_the_newest_program(world: World) -> None:
    world.want()
    (world.home / "program").write_text("99.0.0\n/nowhere/python\n")
    world.host().ask("echo")
    assert (world.home / "program").read_text().startswith("99.0.0\n")


def test_twelve_relays_of_two_versions_end_with_one_new_office(world: World) -> None:
    newer = world.newer("99.0.0")
    hosts = [world.host(package=newer) if number % 2 else world.host() for number in range(12)]
    for host in hosts:
        assert host.ask("echo", "x") == "x"
    for host in hosts:
        assert host.ask("echo", "y") == "y"
    assert world.journal("start")[-1]["version"] == "99.0.0"
    assert len(world.journal("start")) <= 2


def test_a_host_with_other_settings_is_refused_with_both_values(world: World) -> None:
    first = world.host(env={"MCP_MAILBOX_LEASE": "60"})
    first.ask("echo")
    other = world.host(env={"MCP_MAILBOX_LEASE": "90"})
    error = other.ask("echo")
    assert error["data"] == {"code": "config_mismatch"}
    assert "MCP_MAILBOX_LEASE is 60 there and 90 here" in error["message"]
    assert other.wait() == 1
    assert "mcp-mailbox stop" in other.errors()
    assert world.host().ask("echo", "sets nothing") == "sets nothing"
    assert first.ask("echo", 1) == 1


def test_status_says_what_the_office_and_its_service_know(world: World) -> None:
    assert rendezvous.ask(str(world.home), frames.STATUS) is None
    host = world.host()
    host.ask("echo")
    answer = rendezvous.ask(str(world.home), frames.STATUS)
    assert answer is not None
    status = json.loads(answer)
    assert status["pid"] == world.office_pid() == int((world.home / "office.lock").read_text())
    assert (status["version"], status["mail"], len(status["relays"])) == (__version__, 7, 1)
    assert host.ask("echo", 1) == 1


def test_a_command_reaches_the_service(world: World) -> None:
    asked = {"do": "this", "with": "spaces and ünicode"}
    world.host().ask("echo")
    told: list[bytes] = []
    answer = rendezvous.ask(str(world.home), frames.COMMAND, json.dumps(asked).encode().hex(), told=told.append)
    assert answer is not None
    assert json.loads(answer) == {"asked": asked}
    assert [json.loads(each) for each in told] == [{"told": asked}]


def test_the_office_learns_whether_an_answer_was_used(world: World) -> None:
    world.host().ask("echo")
    used: list[bytes] = []
    asked = json.dumps("x").encode().hex()
    answer = rendezvous.ask(str(world.home), frames.COMMAND, asked, use=used.append)
    assert used == [answer]
    world.wait_for("answered command", taken=True)

    def break_off(_: bytes) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        rendezvous.ask(str(world.home), frames.COMMAND, asked, use=break_off)
    world.wait_for("answered command", taken=False)


def test_a_command_ends_when_whoever_asked_has_gone(world: World) -> None:
    world.host().ask("echo")
    channel = rendezvous.connect(str(world.home))
    assert channel is not None
    channel.settimeout(DEADLINE)
    channel.sendall(frames.frame(frames.COMMAND, line=json.dumps("hang").encode().hex().encode()))
    world.wait_for("hanging")
    channel.close()
    world.wait_for("let go")


def test_a_bug_in_a_command_is_told_and_ends_nothing_else(world: World) -> None:
    host = world.host()
    host.ask("echo")
    with pytest.raises(rendezvous.Refused, match=r"office\.log") as refused:
        rendezvous.ask(str(world.home), frames.COMMAND, json.dumps("fail").encode().hex())
    assert refused.value.code == "failed"
    assert "planted: a bug in a command" in world.log()
    assert host.ask("echo", 1) == 1
    assert len(world.journal("start")) == 1


def test_a_newer_program_that_cannot_be_noted_is_served_as_it_is(world: World) -> None:
    host = world.host()
    host.ask("echo")
    program = world.home / "program"
    program.unlink()
    program.mkdir()  # cannot be replaced, as nothing can on a full disk
    assert world.host(package=world.newer("99.0.0")).ask("echo", "new") == "new"
    assert host.ask("echo", 1) == 1
    assert "version 99.0.0" in world.log()
    assert [*world.home.glob("program*")] == [program], "what could not be replaced leaves nothing behind"
    assert len(world.journal("start")) == len(world.journal("hello")) - 1 == 1


def test_stop_lets_waits_end_and_the_next_line_starts_a_new_office(world: World) -> None:
    host = world.host()
    host.ask("echo")
    pid = world.office_pid()
    assert rendezvous.ask(str(world.home), frames.QUIT, "tired of it") == b""
    world.office_ended(pid)
    assert world.journal("leaving")[0]["reason"] == "stop"
    assert world.journal("closed")[0]["reason"] == "stop"
    assert "tired-of-it" in world.log()
    assert [path.name for path in world.home.glob("office.[se]*")] == []
    assert len(world.journal("start")) == 1
    assert host.ask("echo", 1) == 1
    assert world.journal("hello")[1]["epoch"] > 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_and_what_is_unanswered_goes_to_the_next_one(world: World, number: int) -> None:
    host = world.host()
    host.send("answer-later")
    world.wait_for("frame", kind="m")
    world.kill_office(number)
    assert host.line()["result"] == "later"
    assert world.journal("closed")[0]["reason"] == "stop"


def test_a_service_that_does_not_let_go_is_cut_off(world: World) -> None:
    world.want(stubborn=True, office={"LEAVE_SECONDS": 0.2})
    host = world.host()
    host.ask("echo")
    world.kill_office(signal.SIGTERM)
    assert world.journal("closed")


def test_it_leaves_when_idle_and_not_before(world: World) -> None:
    host = world.host(env={"MCP_MAILBOX_IDLE": "0.2"})
    host.ask("echo")
    pid = world.office_pid()
    time.sleep(0.5)  # nothing happens, which no event can tell: the point of this test
    assert host.ask("echo", 1) == 1
    assert world.office_pid() == pid
    host.close()
    world.office_ended(pid)
    assert world.journal("closed")[0]["reason"] == "idle"


def test_it_leaves_when_idle_after_relays_that_overlapped(world: World) -> None:
    idle = {"MCP_MAILBOX_IDLE": "0.2"}
    first, second = world.host(env=idle), world.host(env=idle)
    first.ask("echo")
    second.ask("echo")
    pid = world.office_pid()
    for host in (first, second):
        host.close()
        assert host.wait() == 0
    world.office_ended(pid)
    assert world.journal("closed")[0]["reason"] == "idle"


def test_the_log_rotates_privately_and_holds_no_mail(world: World) -> None:
    world.want(office={"LOG_BYTES": 20_000})
    host = world.host(umask=0)
    host.ask("echo", "a secret body")
    host.ask("log", 200)
    logs = sorted(world.home.glob("office.log*"))
    assert len(logs) == 4
    assert {stat.S_IMODE(log.stat().st_mode) for log in logs} == {0o600}
    assert all("secret body" not in log.read_text() for log in logs)
    # What is printed past the log follows it.
    assert Path(f"/proc/{world.office_pid()}/fd/2").readlink() == world.home / "office.log"


def test_a_relay_that_comes_back_ends_its_earlier_connection(world: World) -> None:
    world.host().ask("echo")

    def hello(epoch: int) -> bytes:
        fields = {"relay": "abc", "version": __version__, "epoch": str(epoch), "replay": "0"}
        return frames.hello(fields)

    path = (world.home / "office.endpoint").read_text().split()[1]
    with socket.socket(socket.AF_UNIX) as first:
        first.settimeout(10)
        first.connect(path)
        first.sendall(hello(2))
        assert first.recv(100) == b"h %b\n" % __version__.encode()
        assert world.talk(hello(1)) == b""  # overtaken on the way
        with socket.socket(socket.AF_UNIX) as second:
            second.settimeout(10)
            second.connect(path)
            second.sendall(hello(3))
            assert first.recv(100) == b""
            assert second.recv(100) == b"h %b\n" % __version__.encode()


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\n\r\n", b"h relay=zz\n", b"h \xff\n", b"\n", b"h epoch=31\n", b"c zz\n", b"c\n",
        pytest.param(b"c %b\n" % (b"[" * 100_000).hex().encode(), id="deep"),
    ],
)  # fmt: skip
def test_a_caller_that_speaks_no_frames_is_let_go(world: World, noise: bytes) -> None:
    host = world.host()
    host.ask("echo")
    assert world.talk(noise) == b""
    assert host.ask("echo", 1) == 1
    assert len(world.journal("start")) == 1


def test_a_connection_that_takes_nothing_for_long_is_dropped_and_no_other(world: World) -> None:
    world.want(office={"STUCK_SECONDS": 0.3})
    stuck, other = world.host(), world.host()
    other.ask("echo")
    stuck.send("big", 2_000_000)  # fills the relay, which holds one frame beyond its limit
    world.wait_for("answered", serial=1)
    stuck.send("big", 20_000_000)
    world.wait_for("end", epoch=1)
    assert other.ask("echo", 1) == 1
    assert len(stuck.line()["result"]) == 2_000_000
    assert len(stuck.line()["result"]) == 20_000_000  # asked for again in the next epoch


def test_a_connection_that_takes_nothing_but_has_little_queued_is_kept(world: World) -> None:
    world.want(office={"STUCK_SECONDS": 0.1})
    slow = world.host()
    slow.send("big", 2_000_000)
    slow.send("big", 3_000_000)
    world.wait_for("frame", kind="m", serial=2)
    time.sleep(0.5)  # nothing happens, which no event can tell
    assert len(slow.line()["result"]) == 2_000_000
    assert len(slow.line()["result"]) == 3_000_000
    assert len(world.journal("hello")) == 1


def test_stopping_waits_until_the_office_has_gone(world: World) -> None:
    assert not rendezvous.stop(str(world.home))
    world.host().ask("echo")
    assert rendezvous.stop(str(world.home))
    assert world.journal("closed")
    assert not rendezvous.stop(str(world.home))


def take_long_to_leave(world: World) -> None:
    """Have an office with a host that does not read: it has something to say until it loses patience."""
    world.want(office={"FLUSH_SECONDS": 1.5})  # longer than one look at the lock and one at the endpoint
    stuck = world.host()
    stuck.send("big", 2_000_000)
    world.wait_for("answered", serial=1)
    stuck.send("big", 20_000_000)
    world.wait_for("frame", serial=2)


def test_stopping_an_office_that_is_leaving_waits_for_it(world: World) -> None:
    take_long_to_leave(world)
    assert rendezvous.ask(str(world.home), frames.QUIT, "first") == b""
    world.wait_for("leaving")
    assert rendezvous.stop(str(world.home))
    assert world.journal("closed"), "it was not killed"


def test_an_office_that_is_leaving_is_not_taken_for_one_that_is_stuck(world: World) -> None:
    take_long_to_leave(world)
    assert rendezvous.ask(str(world.home), frames.QUIT, "first") == b""
    world.wait_for("leaving")
    with pytest.raises(rendezvous.Refused, match="is leaving") as refused:
        rendezvous.ask(str(world.home), frames.STATUS)
    assert refused.value.code == "leaving"
    assert "mcp-mailbox stop" not in refused.value.hint


def test_a_question_that_an_office_on_its_way_out_did_not_read_is_no_answer(world: World) -> None:
    world.want()
    with socket.socket(socket.AF_UNIX) as listener:  # an office that leaves between our connection and its look at it
        listener.bind(str(world.home / "office.sock"))
        listener.listen()
        (world.home / "office.endpoint").write_text(f"unix {world.home / 'office.sock'}\n")
        with ThreadPoolExecutor() as threads:
            asked = threads.submit(rendezvous.ask, str(world.home), frames.STATUS)
            office, _ = listener.accept()
            (world.home / "office.endpoint").unlink()
            office.close()
            with pytest.raises(rendezvous.Refused, match="is leaving"):
                asked.result(DEADLINE)


def test_who_takes_over_waits_for_an_office_that_is_leaving(world: World) -> None:
    take_long_to_leave(world)
    taken = take_over(world)
    assert (taken.returncode, taken.stderr) == (0, "")
    assert world.journal("closed")[0]["reason"] == "drain"


def test_who_takes_over_waits_no_longer_than_it_says(world: World) -> None:
    world.host().ask("echo")
    os.kill(world.office_pid(), signal.SIGSTOP)
    began = time.monotonic()
    taken = take_over(world, seconds=0.6)
    assert time.monotonic() - began < 5
    assert "unreachable" in taken.stderr


def take_over(world: World, **how: float) -> subprocess.CompletedProcess[str]:
    """Take the office's place in a process of its own, and leave."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from mcp_mailbox import machine, rendezvous;"
        f" rendezvous.take_over(machine.home(), **{how!r}).release()"
    )
    return subprocess.run(
        [sys.executable, "-P", "-c", code], env=world.environment(), capture_output=True, text=True, check=False
    )


def test_stopping_kills_an_office_that_does_not_answer_and_no_other_process(world: World) -> None:
    world.host().ask("echo")
    office = world.office_pid()
    world.hosts.pop().end()
    os.kill(office, signal.SIGSTOP)
    lock = world.home / "office.lock"
    with subprocess.Popen(["sleep", "60"]) as bystander:
        lock.write_text(f"{bystander.pid}\n")  # the number of a process in some other container
        with pytest.raises(rendezvous.Refused, match="unreachable"):
            rendezvous.stop(str(world.home), seconds=0.6)
        assert bystander.poll() is None
        bystander.kill()
    lock.write_text(f"{office}\n")
    assert rendezvous.stop(str(world.home), seconds=0.6)
    assert world.host().ask("echo", 1) == 1
