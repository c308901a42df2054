"""Any order of setting up, undoing, and writing by users and hosts, against a plain model of what the file says."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mcp_mailbox.setup import formats, jsonc
from mcp_mailbox.setup.host import Host, Scope, Server, revised
from mcp_mailbox.setup.hosts import HOSTS
from mcp_mailbox.setup.plan import Action
from tests.setup.desk import OVER_HTTP, STDIO, Desk, moved

SERVERS = (STDIO, moved(STDIO, "/b/mcp-mailbox"), OVER_HTTP)


class Files(RuleBasedStateMachine):
    """One host's file. What others have in it is theirs, whatever happens; ours is there, or it is not."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.desk = Desk(Path(self._directory.name))
        self.host: Host = HOSTS["opencode"]
        self.theirs: dict[str, Any] = {}
        self.ours: dict[str, Any] | None = None
        self.touched = False
        """Whether others wrote since the first setup."""
        self.original: bytes | None = None
        self.count = 0

    def teardown(self) -> None:
        self._directory.cleanup()

    @property
    def path(self) -> Path:
        return self.desk.file(self.host, Scope.USER)

    def _put(self, path: tuple[str, ...], value: Any) -> None:
        text = self.path.read_bytes().decode()
        if self.host.name == "codex":
            # As somebody does who types at the end of the file.
            assert len(path) == 2
            text += f"\n[{'.'.join(path)}]\nvalue = {json.dumps(value['value'])}\n"
        else:
            text, _ = jsonc.put(text, path, value, jsonc.Dialect.JSON)
        self.path.write_bytes(text.encode())

    @initialize(name=st.sampled_from(["claude", "codex"]), there=st.booleans())
    def begin(self, name: str, there: bool) -> None:
        self.host = HOSTS[name]
        if there:
            text = "[a]\nvalue = 1\n" if name == "codex" else '{"a": {"value": 1}}'
            self.desk.write(self.host, text)
            self.theirs = {"a": {"value": 1}}
        self.original = self.path.read_bytes() if there else None

    @rule(server=st.sampled_from(SERVERS))
    def set_up(self, server: Server) -> None:
        if not self.desk.book.records() and not self.touched:
            self.original = self.path.read_bytes() if self.path.exists() else None
        change = self.desk.plan(self.host, server)
        assert change.action is not Action.REFUSE
        written = self.host.write(server)
        assert written
        if change.action is not Action.NOTHING:
            self.desk.set_up(self.host, server)
        self.ours = revised(self.ours, written)
        assert self.desk.plan(self.host, server).action is Action.NOTHING

    @precondition(lambda self: self.path.exists())
    @rule(inside=st.booleans())
    def somebody_adds_something(self, inside: bool) -> None:
        self.count += 1
        name, value = f"k{self.count}", {"value": self.count}
        path = (*self.host.servers, name) if inside else ("other", name)
        self._put(path, value)
        self.theirs.setdefault(path[0], {})[name] = value
        self.touched = True

    @precondition(lambda self: self.host.name == "claude" and self.path.exists())
    @rule()
    def the_host_writes_it_anew(self) -> None:
        said = json.loads(self.path.read_text() or "{}")
        self.path.write_text(json.dumps(said, indent=2))
        self.touched = True

    @precondition(lambda self: self.ours is not None)
    @rule()
    def somebody_takes_ours_out(self) -> None:
        text = self.path.read_bytes().decode()
        self.path.write_bytes(self.host.format.take(text, (*self.host.servers, "mailbox"), {}).encode())
        self.ours = None
        self.touched = True

    @rule()
    def undo(self) -> None:
        had = bool(self.desk.book.records())
        self.desk.undo()
        assert self.desk.book.records() == []
        if had:
            self.ours = None
            if not self.touched:
                assert (self.path.read_bytes() if self.path.exists() else None) == self.original
        assert not list((self.desk.root / "store").glob("setup-backups/*"))

    @invariant()
    def the_file_says_what_it_should(self) -> None:
        text = self.path.read_bytes().decode() if self.path.exists() else ""
        said = copy.deepcopy(self.host.format.read(text))
        entry = formats.at(said, (*self.host.servers, "mailbox"))
        assert entry == self.ours
        if entry is not None:
            del formats.at(said, self.host.servers)["mailbox"]
        for table in (said, self.theirs):
            if table.get(self.host.servers[0]) == {}:
                del table[self.host.servers[0]]
        assert said == self.theirs


TestFiles = Files.TestCase
# Each write waits for the disk, as it should.
TestFiles.settings = settings(
    max_examples=40, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
