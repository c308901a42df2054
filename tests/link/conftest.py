"""A hub for the whole directory, and a machine of its own behind a link of its own for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.fronts.world import Edged, Era, Home, Link, Served, Town
from tests.link.proxy import Proxy

_spaces = count(1)


class Machine(Town):
    """An edge, and the link between it and the hub."""

    def __init__(self, home: Edged, link: Proxy, space: str) -> None:
        super().__init__(home, space)
        self.link = link

    def waits(self) -> int:
        """How much is in its outbox."""
        found: int = self.home.status()["hub"]["outbox"]
        return found

    def reached(self) -> bool:
        return bool(self.home.status()["hub"]["reached"])


class Hub(Served):
    """A hub that is known by the names of its links, too."""

    def __init__(self, directory: Path, links: int, *, program: str | None = None, **settings: str) -> None:
        self.links = [Proxy() for _ in range(links)]
        names = [each for link in self.links for each in ("--allow-host", f"127.0.0.1:{link.port}")]
        super().__init__(directory, *names, program=program, **settings)

    def connect(self, environment: dict[str, str], python: str, mailbox: str | None, era: Era) -> Link:
        """Return what an agent on the hub's own machine is started with: by stdio it outlives a restart."""
        return Home.connect(self, environment, python, mailbox, era)

    def end(self) -> None:
        super().end()
        for link in self.links:
            link.end()

    def link(self) -> Proxy:
        """Return one that nobody has."""
        link = self.links.pop()
        link.target = self.port
        return link


@pytest.fixture(scope="package")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Ends with these tests: its links listen in this process, where others look who listens."""
    home = Hub(tmp_path_factory.mktemp("hub"), 60)
    home.start()
    yield home
    home.end()


@pytest.fixture
def own_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One for a test that ends it."""
    home = Hub(tmp_path_factory.mktemp("hub"), 4)
    home.start()
    yield home
    home.end()


@pytest.fixture
def space() -> str:
    return f"space{next(_spaces)}"


@pytest.fixture
def there(hub: Hub, space: str) -> Iterator[Town]:
    """Agents at the hub itself."""
    town = Town(hub, space)
    yield town
    town.end()


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory, space: str, hub: Hub) -> Iterator[Callable[..., Machine]]:
    """Return what makes a machine at the hub, or at another one."""
    made: list[Machine] = []

    def make(at: Hub | None = None, **settings: str) -> Machine:
        link = (at or hub).link()
        home = Edged(tmp_path_factory.mktemp("e"), at or hub, link.url, **settings)
        made.append(Machine(home, link, space))
        return made[-1]

    yield make
    for each in made:
        each.end()
        each.home.end()
        each.link.end()
