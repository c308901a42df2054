"""Two machines, the link between them and what a seed breaks of it: the short form of `tests.link.machines`."""

from __future__ import annotations

import pytest

from tests.link import machines


@pytest.mark.soak
def test_what_an_edge_takes_in_alone_arrives_and_a_seed_of_kills_loses_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with machines.world(homes=True) as both:
        try:
            machines.offline(both, 50)
            machines.storm(both, 7, 2)
        except machines.Trouble as trouble:
            pytest.fail(f"{trouble}\n{capsys.readouterr().out}")
