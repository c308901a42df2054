"""Promises and tests cover each other."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

from tests.contract.promises import PROMISES


def _tests() -> Iterator[tuple[str, set[str]]]:
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path == Path(__file__):
            continue
        module = importlib.import_module(f"tests.contract.{path.stem}")
        for name, test in inspect.getmembers(module):
            if name.startswith("test_"):
                marks = getattr(test, "pytestmark", [])
                yield f"{path.stem}.{name}", {id_ for mark in marks if mark.name == "promise" for id_ in mark.args}


def test_every_promise_has_a_test() -> None:
    tested = set().union(*(ids for _, ids in _tests()))
    assert set(PROMISES) - tested == set()


def test_every_contract_test_names_a_promise_that_exists() -> None:
    assert {name: ids for name, ids in _tests() if not ids or not ids <= set(PROMISES)} == {}
