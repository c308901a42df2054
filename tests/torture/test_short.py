"""The torture tool's short form: for about 20 s servers, relays and hosts are killed, and no mail is lost."""

from __future__ import annotations

import shutil

import pytest

from tests.torture import plan, report
from tests.torture.run import Options, run


@pytest.mark.soak
def test_mail_survives_kills_of_server_relay_and_host_over_stdio_and_http(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(Options(seed=20, seconds=12, kills=8, senders=3, readers=4, mailboxes=2, lease=2, keep=True))
    report.show(outcome)
    shutil.rmtree(outcome.directory) if outcome.holds else None
    assert outcome.holds, capsys.readouterr().out
    assert all(f" {way}" in f" {report.ways(outcome.histories)}" for way in ("stdio", "session", "alone"))
    assert outcome.struck_busy >= 2
    assert sum(outcome.faults[kind] for kind in plan.KILLS) == 8


@pytest.mark.soak
def test_mail_survives_kills_of_hub_and_edge_and_a_link_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(
        Options(seed=20, seconds=14, kills=6, senders=3, readers=4, mailboxes=2, lease=2, over="edge", keep=True)
    )
    report.show(outcome)
    shutil.rmtree(outcome.directory) if outcome.holds else None
    assert outcome.holds, capsys.readouterr().out
    assert all(f" {way}" in f" {report.ways(outcome.histories)}" for way in ("edge", "stdio", "session"))
    assert sum(outcome.faults[kind] for kind in plan.KILLS) == 6
    assert sum(outcome.faults[kind] for kind in plan.LINKS) == 4
    assert any(entry.verb == "send" for entry in outcome.histories.outbox.values())


def test_a_seed_stands_for_the_same_mail_and_the_same_faults() -> None:
    boxes = ["box-0", "box-1"]
    assert plan.letter(7, "sender-0", 3, boxes) == plan.letter(7, "sender-0", 3, boxes)
    assert plan.letter(7, "sender-0", 3, boxes) != plan.letter(8, "sender-0", 3, boxes)
    assert plan.faults(7, tuple(plan.FAULTS), 20) == plan.faults(7, tuple(plan.FAULTS), 20)
    assert plan.faults(7, tuple(plan.FAULTS), 20) != plan.faults(8, tuple(plan.FAULTS), 20)
