"""One post office for the whole directory, a space of it for each test; a home of their own for those that break it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from tests.fronts.world import ERAS, Edged, Era, Home, Served, Town

_spaces = count(1)
STDIO, HTTP, EDGE = "stdio", "http", "edge"
_WAYS = [EDGE] if os.environ.get("TESTS_FRONTS") == EDGE else [STDIO, HTTP]
"""TESTS_FRONTS=edge plays all of it at the edge of a hub instead."""


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("f"))
    yield home
    home.end()


@pytest.fixture(scope="session")
def served_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = Served(tmp_path_factory.mktemp("s"))
    yield home.start()
    home.end()


@pytest.fixture(scope="session")
def edged_home(served_home: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edged]:
    home = Edged(tmp_path_factory.mktemp("e"), served_home)
    yield home
    home.end()


@pytest.fixture
def town(request: pytest.FixtureRequest) -> Iterator[Town]:
    """Agents on stdio, or over HTTP: what holds for one holds for the other, unless a test says what it needs."""
    home = {HTTP: "served_home", EDGE: "edged_home"}.get(getattr(request, "param", STDIO), "shared_home")
    one = Town(request.getfixturevalue(home), f"space{next(_spaces)}")
    yield one
    one.end()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "town" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("stdio")
        metafunc.parametrize("town", [STDIO] if only and EDGE not in _WAYS else _WAYS, indirect=True)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "stdio(why): a test that is about relays, or lines")


@pytest.fixture
def new_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Town]]:
    """Return what makes a home of one's own, with these settings."""
    towns: list[Town] = []

    def make(**settings: str) -> Town:
        towns.append(Town(Home(tmp_path_factory.mktemp("f"), **settings), "default"))
        return towns[-1]

    yield make
    for one in towns:
        one.end()
        one.home.end()


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> Era:
    found: Era = request.param
    return found
