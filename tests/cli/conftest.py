"""A home that the tests of a module share: starting a post office takes a second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.person import Home, Person


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("home"))
    yield home
    home.end()


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
