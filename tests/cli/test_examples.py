"""The examples, run as README says; each is in a home of its own and leaves nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_commands import DEADLINE, ROOT, Shell, shell

pytestmark = pytest.mark.soak

__all__ = ["shell"]


@pytest.fixture
def played(request: pytest.FixtureRequest, shell: Shell, tmp_path: Path) -> list[str]:
    """Return what the example of that name said, line by line."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{request.param}.py")],
        env=shell.environment | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(temporary.iterdir()) == []
    return done.stdout.splitlines()


@pytest.mark.parametrize("played", ["reservation_conflict"], indirect=True)
def test_the_example_of_a_conflict_ends_with_the_files_in_the_others_hands(played: list[str]) -> None:
    said = [line.partition(" until ")[0] for line in played]
    assert said[1].startswith("bob    is refused: 'src/api/routes.py' is held by alice@default")
    assert said[-1] == "bob    holds src/api/routes.py, README.md"


@pytest.mark.parametrize("played", ["hand_over"], indirect=True)
def test_the_example_of_a_hand_over_ends_with_the_answer(played: list[str]) -> None:
    assert played == [
        "alice  hands the task over and leaves",
        'bob    starts, and takes "Port the parser\'s tests" from alice@default',
        "bob    answers and leaves",
        "alice  starts again, and reads: Ported: 41 tests pass, commit 3f1c.",
    ]


@pytest.mark.parametrize("played", ["pool_of_three"], indirect=True)
def test_in_the_example_of_a_pool_each_task_is_answered_once_although_a_worker_is_killed(played: list[str]) -> None:
    assert played[-1] == "boss   has 9 tasks answered, each once: True"
    [lost] = [line.rpartition("over ")[2] for line in played if line.startswith("boss   kills carl over ")]
    took = [line.partition("takes ")[::2] for line in played if "takes " in line]
    first, second = (name.strip() for name, task in took if task == lost)
    assert first == "carl" != second
    assert len(took) == 10


@pytest.mark.parametrize("played", ["channel"], indirect=True)
def test_in_the_example_of_a_channel_each_member_hears_the_announcement_whenever_it_comes(played: list[str]) -> None:
    heard = " hears in #releases@default from alice@default: main is frozen until 18:00: the release is being cut."
    assert played[0] == "carol  joins #releases, and leaves"
    assert "alice  announces it to 2 members" in played
    assert [line.split()[0] for line in played if line.endswith(heard)] == ["bob", "carol", "dave"]
