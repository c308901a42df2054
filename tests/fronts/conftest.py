"""One post office for the whole directory, a space of it for each test; a home of their own for those that break it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from tests.fronts.world import ERAS, Era, Home, Town

_spaces = count(1)


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("f"))
    yield home
    home.end()


@pytest.fixture
def town(shared_home: Home) -> Iterator[Town]:
    one = Town(shared_home, f"space{next(_spaces)}")
    yield one
    one.end()


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
