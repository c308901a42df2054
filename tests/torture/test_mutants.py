"""The planted bugs still find their places in the program; `python -m tests.torture --mutants` catches them."""

from __future__ import annotations

import compileall
from pathlib import Path

import pytest

from tests.torture.mutants import MUTANTS, Edit, Moved


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_can_be_planted(name: str, tmp_path: Path) -> None:
    program = MUTANTS[name].plant(tmp_path / "program")
    files = {program / edit.file for edit in MUTANTS[name].edits}
    assert all(compileall.compile_file(file, quiet=1) for file in files)


def test_planting_into_source_that_has_moved_on_fails_loudly(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one\none\n")
    with pytest.raises(Moved):
        Edit("a.py", "one", "two").apply(tmp_path)
    with pytest.raises(Moved):
        Edit("a.py", "three", "two").apply(tmp_path)
