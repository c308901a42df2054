"""One server for the whole directory, a space and tokens for each test; one of their own for tests that end it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from mcp_mailbox import frames, rendezvous
from tests.fronts.world import Served
from tests.http.caller import Caller, Json

_numbers = count(1)


class Post:
    """A server, and whoever comes to it."""

    def __init__(self, home: Served) -> None:
        self.home = home
        self.space = f"space{next(_numbers)}"

    def command(self, do: str, **arguments: object) -> Json:
        """Ask what only the command line may."""
        asked = json.dumps({"do": do, **arguments}).encode().hex()
        answer: Json = json.loads(rendezvous.ask(str(self.home.path), frames.COMMAND, asked) or b"{}")
        assert "error" not in answer, answer
        return answer

    def issue(self, principal: str = "local", **arguments: object) -> Json:
        return self.command("token create", name="test", principal=principal, **arguments)

    def caller(self, token: str | None = None, **headers: str) -> Caller:
        """The machine's own user, or whoever has that token."""
        return Caller(self.home.port, token or self.home.token, self.space, **headers)

    def stranger(self, principal: str, **arguments: object) -> Caller:
        """Somebody else."""
        return self.caller(self.issue(principal, **arguments)["token"])

    def nobody(self) -> Caller:
        return Caller(self.home.port, None, self.space)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("h"))
    yield served.start()
    served.end()


@pytest.fixture
def post(home: Served) -> Post:
    return Post(home)


@pytest.fixture
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Return what makes a home of one's own; its server is to be started."""
    homes: list[Served] = []

    def make(*arguments: str, program: str | None = None, **settings: str) -> Served:
        homes.append(Served(tmp_path_factory.mktemp("h"), *arguments, program=program, **settings))
        return homes[-1]

    yield make
    for one in homes:
        one.end()
