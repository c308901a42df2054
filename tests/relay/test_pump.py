"""What a relay does between its host's pipes and the office."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .world import World


def test_a_relay_that_finds_no_office_starts_one_and_answers(world: World) -> None:
    host = world.host()
    assert host.ask("echo", [1, "é"]) == [1, "é"]
    host.close()
    assert host.wait() == 0
    assert len(world.journal("start")) == 1
    assert world.journal("hello")[0]["epoch"] == 1


def test_a_line_is_new_the_first_time_it_travels_even_when_it_waited_for_the_office(world: World) -> None:
    host = world.host()
    host.ask("echo")
    assert [frame["kind"] for frame in world.frames("m", "r")] == ["m"]
    assert world.journal("hello")[0]["replay"] == 0


def test_written_is_said_after_the_host_could_read_the_answer(world: World) -> None:
    host = world.host()
    host.send("big", 300_000)  # more than a pipe holds
    world.wait_for("answered")
    host.send("echo")
    world.wait_for("frame", kind="m", serial=2)
    assert world.frames("w") == []
    assert len(host.line()["result"]) == 300_000
    world.wait_for("frame", kind="w", serial=1)
    assert host.line()["id"] == 2
    world.wait_for("frame", kind="w", serial=2)


def test_a_host_that_vanishes_in_the_middle_of_an_answer_is_never_reported_as_having_it(world: World) -> None:
    host = world.host()
    host.send("big", 300_000)
    world.wait_for("answered")
    os.close(host.output)
    host.output = os.open(os.devnull, os.O_RDONLY)
    assert host.wait() == 0
    world.wait_for("end")
    assert world.frames("w") == []


def test_a_five_megabyte_line_passes_both_ways(world: World) -> None:
    host = world.host()
    body = "x" * 5_000_000
    assert host.ask("echo", body) == body


@pytest.mark.parametrize("length", [(8 << 20) - 40, 9 << 20, (9 << 20) + 65_536 - 50])
def test_a_line_over_the_limit_is_dropped_and_reported_with_its_ends(world: World, length: int) -> None:
    host = world.host()
    line = json.dumps({"method": "echo", "params": "x" * length, "id": 1}).encode()
    host.send_raw(line + b"\n")
    assert host.line() == {"error": "too long"}
    host.ids = 1
    assert host.ask("echo", "after") == "after"
    [frame] = world.frames("o")
    assert frame["length"] == len(line)
    assert frame["line"].encode() == line[:1024] + line[-1024:]


def test_blank_lines_are_skipped_and_carriage_returns_accepted(world: World) -> None:
    host = world.host()
    host.send_raw(b'\n  \n\r\n{"id":7,"method":"echo","params":1}\r\n')
    assert host.line()["id"] == 7
    [frame] = world.frames("m")
    assert (frame["serial"], frame["line"][-1]) == (1, "}")


def test_a_last_line_without_an_end_is_sent_too(world: World) -> None:
    host = world.host()
    host.send_raw(b'{"id":7,"method":"echo","params":1}')
    host.close()
    assert host.line()["id"] == 7
    assert host.wait() == 0


def test_when_the_host_closes_stdin_waits_end_early_and_their_answers_are_written(world: World) -> None:
    host = world.host()
    host.send("hang")
    world.wait_for("frame", kind="m")
    host.close()
    assert host.line()["result"] == "early"
    assert host.wait() == 0
    assert world.wait_for("leaving")[0]["reason"] == "host"
    world.wait_for("frame", kind="w", serial=1)


def test_a_forgotten_line_keeps_nobody_waiting_at_the_end(world: World) -> None:
    host = world.host()
    host.send("forget")
    host.close()
    assert host.wait(4) == 0  # the grace for answers is 5 s


def test_an_unanswered_line_is_waited_for_only_so_long(world: World) -> None:
    host = world.host(patches={"relay.GRACE_SECONDS": 0.3})
    host.send("nobody answers this")
    host.close()
    assert host.wait() == 0


def test_a_host_that_does_not_read_delays_no_other_and_can_still_write(world: World) -> None:
    deaf, other = world.host(), world.host()
    other.ask("echo")
    deaf.send("big", 30_000_000)
    deaf.send("flood", 3000)
    world.wait_for("frame", kind="m", line='{"id": 1, "method": "big", "params": 30000000}')
    began = time.monotonic()
    for number in range(20):
        assert other.ask("echo", number) == number
    assert time.monotonic() - began < 3
    deaf.send("echo", "still heard")
    world.wait_for("frame", kind="m", serial=3)
    assert len(deaf.line()["result"]) == 30_000_000


def test_a_relay_on_socket_pairs_works_as_node_starts_them(world: World) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", world.code()],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            env=world.environment(),
        )
        world.processes.append(process)
        theirs.close()
        ours.settimeout(15)
        ours.sendall(b'{"id":1,"method":"big","params":400000}\n')
        received = b""
        while not received.endswith(b"\n"):
            received += ours.recv(65536)
        assert len(json.loads(received)["result"]) == 400_000
        ours.close()
        assert process.wait(15) == 0


def test_no_descriptor_of_the_host_becomes_non_blocking(world: World) -> None:
    host = world.host()
    host.ask("echo")
    assert host.process.stdin
    assert os.get_blocking(host.process.stdin.fileno())
    assert os.get_blocking(host.output)


def test_signals_end_a_relay_at_once(world: World) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        host = world.host()
        host.ask("echo")
        host.send("hang")
        host.process.send_signal(number)
        assert host.wait(2) == -number
        assert host.errors() == ""


def test_notifications_to_a_host_that_does_not_read_are_dropped_not_hoarded(world: World) -> None:
    host = world.host()
    host.send("flood", 10_000)
    world.wait_for("answered")
    taken = 0
    while "result" not in (line := host.line()):
        taken += 1
    assert taken == line["result"] < 10_000


def test_a_bug_in_one_relays_service_ends_neither_office_nor_other_relays(world: World) -> None:
    other = world.host()
    other.ask("echo")
    pid = world.office_pid()
    host = world.host(patches={"relay.PAUSE_SECONDS": 0.05})
    assert host.ask("fail")["data"] == {"code": "office_crashes"}
    assert other.ask("echo", 1) == 1
    assert host.ask("echo", 1) == 1
    assert world.office_pid() == pid
    assert "planted: a bug" in world.log()


def test_too_many_unanswered_bytes_stop_the_reading_until_answers_come(world: World) -> None:
    host = world.host(patches={"relay.AWAITED_LIMIT": 100_000})
    host.send("answer-later", "x" * 200_000)
    world.wait_for("frame", kind="m", serial=1)
    host.send("echo", "after")
    world.kill_office()
    assert host.line()["result"] == "later"
    assert host.line()["result"] == "after"
    assert world.wait_for("frame", kind="m", serial=2)[0]["epoch"] > 1
