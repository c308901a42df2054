"""A client of the store API that writes its own HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count

from mcp_mailbox.fronts.hub import wire
from tests.http.caller import Answer, Caller, Json, Line

EDGE = "attacker-00000000"
_requests = count(1)


class Store:
    """An edge, or whoever plays one: the same name is another edge for another principal."""

    def __init__(self, caller: Caller, edge: str = EDGE, reader: str = "relay") -> None:
        self.caller = caller
        self.edge = edge
        self.reader = reader

    def who(self, **more: object) -> Json:
        space = self.caller.headers["mailbox-space"]
        return {"reader": self.reader, "request": f"r{next(_requests)}", "space": space, **more}

    def post(self, place: str, body: object = None, **headers: str | None) -> Answer:
        usual: dict[str, str | None] = {"mailbox_edge": self.edge}
        if place == "sends":
            usual["content_type"] = wire.NDJSON
        return self.caller.ask("POST", wire.PATH + place, body=body, **(usual | headers))

    def verb(self, name: str, who: Json | None = None, /, **given: object) -> Answer:
        """Ask a verb; `from_` is the parameter `from`."""
        said = {"who": who or self.who(), "given": {key.rstrip("_"): each for key, each in given.items()}}
        return self.post(f"verbs/{name}", said)

    def call(self, name: str, who: Json | None = None, /, **given: object) -> Json:
        """Return the answer of a verb that succeeds."""
        answer = self.verb(name, who, **given)
        assert answer.status == 200, (name, answer.body)
        return answer.json

    def notes(self, *notes: Json, **about: object) -> Answer:
        """Tell these; `about` is the life and the number of the first."""
        return self.post("notes", {"notes": list(notes), **about})

    def note(self, name: str, **about: object) -> Json:
        return {"note": name, "who": self.who(), **about}

    def sends(self, *lines: Json) -> list[Json]:
        """Hand in a batch, and return its answers."""
        answer = self.post("sends", b"\n".join(json.dumps(line).encode() for line in lines))
        assert answer.status == 200, answer.body
        return [json.loads(line) for line in answer.body.splitlines()]

    @contextmanager
    def stream(self, *listens: str, since: str | None = None, life: str = "") -> Iterator[Events]:
        """Open the stream."""
        with self.caller.line() as line:
            body = {"listens": list(listens), "life": life, **({"since": since} if since is not None else {})}
            line.write(self.caller.request("POST", f"{wire.PATH}stream", body=body, mailbox_edge=self.edge))
            status, headers = line.head()
            assert (status, headers["content-type"]) == (200, "text/event-stream")
            yield Events(line)


def revoked_on_the_way(late: Store, request: bytes, others: Store, revoke: Callable[[], object]) -> int:
    """Send a request whose token is revoked before its last byte; return its status."""
    with late.caller.line() as line:
        line.write(request[:-1])
        assert others.verb("list_inbox").status == 200  # it has been let in by now: what came before this is read
        revoke()
        line.write(request[-1:])
        return line.answer().status


class Events:
    """What a stream tells."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.hello = self.next("hello")[1]

    def next(self, wanted: str) -> tuple[str, Json]:
        """Return the id of the next event of that name, and what it says; the others are passed over."""
        while True:
            name, id_, said = self._event()
            if name == wanted:
                return id_, said

    def rings(self) -> list[str]:
        """Return the mailboxes that are rung until the stream ends."""
        rung: list[str] = []
        with suppress(EOFError):
            while True:
                name, _, said = self._event()
                rung += [said["mailbox"]] if name == "ring" else []
        return rung

    def _event(self) -> tuple[str, str, Json]:
        for chunk in self.line.chunks():
            fields = dict(line.partition(": ")[::2] for line in chunk.decode().splitlines() if not line.startswith(":"))
            if "event" in fields:
                return fields["event"], fields.get("id", ""), json.loads(fields["data"])
        raise EOFError
