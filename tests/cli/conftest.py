"""A home that the tests of a module share: starting a post office takes a second."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cli.person import Home, Person
from tests.fronts.world import Served


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A store; with TESTS_FRONTS=edge the edge of a hub, which keeps the mail."""
    if os.environ.get("TESTS_FRONTS") != "edge":
        home = Home(tmp_path_factory.mktemp("home"))
        yield home
        home.end()
        return
    hub = Served(tmp_path_factory.mktemp("hub")).start()
    home = Home(tmp_path_factory.mktemp("home"), MCP_MAILBOX_HUB=hub.url, MCP_MAILBOX_TOKEN=hub.token)
    yield home
    home.end()
    hub.end()


@pytest.fixture
def ann(shared_home: Home) -> Person:
    """Somebody with a space of her own."""
    return shared_home.person("ann")


@pytest.fixture
def bob(ann: Person) -> Person:
    """Somebody beside her, who has a mailbox."""
    other = ann.beside("bob")
    other.run("inbox")
    return other
