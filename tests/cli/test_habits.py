"""`mcp-mailbox habits`: text to append to a file, and nothing else."""

from __future__ import annotations

from mcp_mailbox.fronts.cli import habits
from tests.cli.person import Person


def test_it_prints_what_may_stand_in_agents_md_or_the_whole_skill(ann: Person) -> None:
    text = ann.does("habits")
    assert text.startswith("# Mail between agents\n")
    assert ann.does("habits", "--skill") == habits.skill()
    assert habits.skill().endswith(text)
