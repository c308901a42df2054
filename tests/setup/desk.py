"""A user's home and a project with hosts' files in them, and what the tests do there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from mcp_mailbox.setup.host import Host, Scope, Server, Surroundings
from mcp_mailbox.setup.hosts import HOSTS
from mcp_mailbox.setup.plan import Change, file_of, plan
from mcp_mailbox.setup.record import Book, Record
from mcp_mailbox.setup.transaction import apply
from mcp_mailbox.setup.undo import Undone, undo

STDIO = Server(("/opt/mail/bin/mcp-mailbox", "stdio"))
OVER_HTTP = Server(url="http://127.0.0.1:8765/mcp")

JSON = '{\r\n    "b": 1,\r\n    "a": {"x": [1, 2.50, 1e3]},\r\n    "other": "\\u00fc"\r\n}'
JSONC = """\
// mine
{
\t/* first */ "a": 1, // one
\t// what comes next
\t"b": {
\t\t"c": [1, 2]
\t} // last
\t// end
}
"""
TOML = (
    '# mine\r\nmodel = "m" # the best\r\n\r\n[mcp_servers.other]\r\ncommand = "x"\r\n\r\n  [z]\r\n  y = 0x1F\r\n# end'
)


def text_for(host: Host) -> str:
    """A file as its user may have written it, with all that this host reads."""
    return {"TOML": TOML, "JSON": JSON}.get(host.format.name, JSONC)


def ended(host: Host) -> str:
    """The same, with an end of its last line."""
    text = text_for(host)
    return text if text.endswith("\n") else text + "\r\n"


@dataclass
class Desk:
    """Where a test works."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    mac: bool = False

    def __post_init__(self) -> None:
        for each in (self.home, self.project):
            each.mkdir(exist_ok=True)

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def where(self) -> Surroundings:
        return Surroundings(self.home, self.project, self.env, self.mac)

    @property
    def book(self) -> Book:
        return Book(self.root / "store")

    def file(self, host: Host, scope: Scope = Scope.USER) -> Path:
        path = file_of(host, scope, STDIO, self.where)
        assert path is not None
        return path

    def write(self, host: Host, text: str, scope: Scope = Scope.USER) -> Path:
        path = self.file(host, scope)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return path

    def plan(self, host: Host, server: Server = STDIO, scope: Scope = Scope.USER, name: str | None = None) -> Change:
        return plan(host, scope, server, self.where, name)

    def set_up(self, host: Host, server: Server = STDIO, scope: Scope = Scope.USER, name: str | None = None) -> Record:
        (self.root / "store").mkdir(mode=0o700, exist_ok=True)
        change = self.plan(host, server, scope, name)
        assert change.refused is None, change.refused
        return apply(change, self.book)

    def undo(self) -> list[Undone]:
        return [undo(record, HOSTS[record.host], self.book) for record in self.book.records()[::-1]]

    def tree(self) -> dict[str, bytes | None]:
        """All that is in the home and the project."""
        found = [*self.home.rglob("*"), *self.project.rglob("*")]
        return {str(each.relative_to(self.root)): each.read_bytes() if each.is_file() else None for each in found}


def moved(server: Server, program: str) -> Server:
    """The same server, installed elsewhere."""
    return replace(server, command=(program, *server.command[1:]))
