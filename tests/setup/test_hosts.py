"""Each host's own format, and what every host can count on: undone is as before, twice is once."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mcp_mailbox.setup import formats
from mcp_mailbox.setup.hooks import CLAUDE, plan_hooks
from mcp_mailbox.setup.host import PLUGIN, PLUGIN_PROGRAM, Host, Scope, Server, is_ours, revised
from mcp_mailbox.setup.hosts import HOSTS
from mcp_mailbox.setup.plan import Action
from mcp_mailbox.setup.undo import Undone
from tests.setup.desk import OVER_HTTP, STDIO, Desk, moved, text_for

ROOT = Path(__file__).resolve().parents[2]
CASES = [
    pytest.param(host, scope, server, id=f"{host.name}-{scope}-{'http' if server.url else 'stdio'}")
    for host in HOSTS.values()
    for scope in Scope
    for server in (STDIO, OVER_HTTP)
    if (scope is Scope.USER or host.name != "claude-desktop") and host.write(server)
]
each_case = pytest.mark.parametrize(("host", "scope", "server"), CASES)
each_host = pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
PROGRAM, URL = STDIO.command[0], OVER_HTTP.url


@each_case
def test_undone_the_file_is_what_it_was_to_the_byte(desk: Desk, host: Host, scope: Scope, server: Server) -> None:
    desk.write(host, text_for(host), scope)
    before = desk.tree()
    desk.set_up(host, server, scope)
    assert desk.tree() != before
    assert desk.undo() == [Undone.RESTORED]
    assert desk.tree() == before


@each_case
def test_what_was_not_there_before_is_gone_when_undone(desk: Desk, host: Host, scope: Scope, server: Server) -> None:
    desk.set_up(host, server, scope)
    assert desk.file(host, scope).exists()
    assert desk.undo() == [Undone.REMOVED]
    assert desk.tree() == {}


@each_case
@pytest.mark.parametrize("there", [True, False])
def test_set_up_twice_nothing_is_left_to_do(desk: Desk, host: Host, scope: Scope, server: Server, there: bool) -> None:
    if there:
        desk.write(host, text_for(host), scope)
    desk.set_up(host, server, scope)
    assert desk.plan(host, server, scope).action is Action.NOTHING


@each_case
def test_all_else_that_the_file_says_stays(desk: Desk, host: Host, scope: Scope, server: Server) -> None:
    path = desk.write(host, text_for(host), scope)
    before = host.format.read(path.read_bytes().decode())
    desk.set_up(host, server, scope)
    after = host.format.read(path.read_bytes().decode())
    assert {key: after[key] for key in before if key != "mcp_servers"} == {
        key: before[key] for key in before if key != "mcp_servers"
    }
    assert "mine" not in text_for(host) or b"mine" in path.read_bytes()


ENTRIES: dict[str, dict[str, dict[str, Any]]] = {
    "claude": {
        "stdio": {"type": "stdio", "command": PROGRAM, "args": ["stdio"]},
        "http": {
            "type": "http",
            "url": URL,
            "headers": {
                "Authorization": "Bearer ${MCP_MAILBOX_TOKEN}",
                "Mailbox-Address": "${MCP_MAILBOX_ADDRESS:-}",
            },
            "timeout": 1_800_000,
        },
    },
    "codex": {
        "stdio": {
            "command": PROGRAM,
            "args": ["stdio"],
            "required": True,
            "startup_timeout_sec": 30,
            "tool_timeout_sec": 600,
        },
        "http": {"url": URL, "bearer_token_env_var": "MCP_MAILBOX_TOKEN", "tool_timeout_sec": 600},
    },
    "gemini": {
        "stdio": {"command": PROGRAM, "args": ["stdio"]},
        "http": {"url": URL, "type": "http", "headers": {"Authorization": "Bearer $MCP_MAILBOX_TOKEN"}},
    },
    "opencode": {
        "stdio": {"type": "local", "command": [PROGRAM, "stdio"], "enabled": True, "timeout": 60_000},
        "http": {
            "type": "remote",
            "url": URL,
            "oauth": False,
            "headers": {"Authorization": "Bearer {env:MCP_MAILBOX_TOKEN}"},
            "enabled": True,
            "timeout": 60_000,
        },
    },
    "cursor": {
        "stdio": {"command": PROGRAM, "args": ["stdio"]},
        "http": {"url": URL, "headers": {"Authorization": "Bearer ${env:MCP_MAILBOX_TOKEN}"}},
    },
    "vscode": {
        "stdio": {"type": "stdio", "command": PROGRAM, "args": ["stdio"]},
        "http": {"type": "http", "url": URL, "headers": {"Authorization": "Bearer ${input:mailbox-token}"}},
    },
    "claude-desktop": {"stdio": {"command": PROGRAM, "args": ["stdio"]}},
}
FILES = {
    "claude": (".claude.json", ".mcp.json", "mcpServers"),
    "codex": (".codex/config.toml", ".codex/config.toml", "mcp_servers"),
    "gemini": (".gemini/settings.json", ".gemini/settings.json", "mcpServers"),
    "opencode": (".config/opencode/opencode.json", "opencode.json", "mcp"),
    "cursor": (".cursor/mcp.json", ".cursor/mcp.json", "mcpServers"),
    "vscode": (".config/Code/User/mcp.json", ".vscode/mcp.json", "servers"),
    "claude-desktop": (".config/Claude/claude_desktop_config.json", "", "mcpServers"),
}


@each_case
def test_each_host_is_written_in_its_own_format(desk: Desk, host: Host, scope: Scope, server: Server) -> None:
    desk.set_up(host, server, scope)
    user, project, key = FILES[host.name]
    path = desk.home / user if scope is Scope.USER else desk.project / project
    parse = tomllib.loads if host.name == "codex" else json.loads
    assert parse(path.read_text())[key] == {"mailbox": ENTRIES[host.name]["http" if server.url else "stdio"]}


def test_readme_s_lines_for_codex_are_what_is_written() -> None:
    [told] = re.findall(r"^```toml\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    codex = HOSTS["codex"]
    written = codex.write(Server(("/path/to/.venv/bin/mcp-mailbox", "stdio")))
    assert written
    assert told == codex.format.shown((*codex.servers, "mailbox"), revised(None, written)) + "\n"


def test_vs_code_asks_for_the_token_once_among_what_it_asks_for_already(desk: Desk) -> None:
    host = HOSTS["vscode"]
    text = '{\n  "inputs": [\n    {"id": "x"} // mine\n  ],\n  "servers": {}\n}\n'
    path = desk.write(host, text)
    desk.set_up(host, OVER_HTTP)
    said = host.format.read(path.read_text())
    assert [each["id"] for each in said["inputs"]] == ["x", "mailbox-token"]
    path.write_text(path.read_text() + "// later\n")
    assert desk.undo() == [Undone.TAKEN_OUT]
    assert path.read_text() == text + "// later\n"


def test_what_the_store_needs_in_the_environment_is_registered_too(desk: Desk) -> None:
    server = Server(STDIO.command, {"MCP_MAILBOX_HOME": "/srv/mail"})
    for host in HOSTS.values():
        desk.set_up(host, server)
        entry = formats.at(host.format.read(desk.file(host).read_text()), (*host.servers, "mailbox"))
        assert {"MCP_MAILBOX_HOME": "/srv/mail"} in (entry.get("env"), entry.get("environment"))


def test_hosts_are_where_their_variables_say(desk: Desk) -> None:
    desk.env = {
        "CLAUDE_CONFIG_DIR": str(desk.home / "c"),
        "CODEX_HOME": str(desk.home / "x"),
        "XDG_CONFIG_HOME": str(desk.home / "xdg"),
    }
    files = {name: str(desk.file(host).relative_to(desk.home)) for name, host in HOSTS.items()}
    assert files["claude"] == "c/.claude.json"
    assert files["codex"] == "x/config.toml"
    assert files["opencode"] == "xdg/opencode/opencode.json"
    assert files["vscode"] == "xdg/Code/User/mcp.json"
    desk.mac = True
    assert str(desk.file(HOSTS["vscode"])).endswith("Library/Application Support/Code/User/mcp.json")
    assert str(desk.file(HOSTS["claude-desktop"])).endswith("Support/Claude/claude_desktop_config.json")


@pytest.mark.parametrize("name", ["opencode.jsonc", "config.json", "opencode.json"])
def test_opencodes_file_is_the_one_that_is_there(desk: Desk, name: str) -> None:
    path = desk.home / ".config/opencode" / name
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert desk.file(HOSTS["opencode"]) == path


def test_of_two_files_the_one_that_has_our_entry_is_edited(desk: Desk) -> None:
    host = HOSTS["opencode"]
    base = desk.home / ".config/opencode"
    base.mkdir(parents=True)
    (base / "opencode.json").write_text("{}")
    (base / "opencode.jsonc").write_text(
        '{"mcp": {"post": {"type": "local", "command": ["/old/mcp-mailbox", "stdio"]}}}'
    )
    desk.set_up(host)
    assert (base / "opencode.json").read_text() == "{}"
    assert PROGRAM in (base / "opencode.jsonc").read_text()


def test_only_hosts_that_are_here_are_found(desk: Desk) -> None:
    def found() -> list[str]:
        return [name for name, host in HOSTS.items() if host.is_here(desk.where)]

    assert found() == []
    for path in (".claude.json", ".codex/", ".gemini/", ".config/opencode/", ".cursor/"):
        (desk.home / path).touch() if path.endswith("json") else (desk.home / path).mkdir(parents=True)
    assert found() == ["claude", "codex", "gemini", "opencode", "cursor"]


# -- entries that are there


@each_host
def test_an_older_command_is_brought_up_to_date_and_comes_back_when_undone(desk: Desk, host: Host) -> None:
    desk.write(host, text_for(host))
    desk.set_up(host, moved(STDIO, "/old/venv/bin/mcp-mailbox"))
    before = desk.tree()
    assert desk.plan(host).action is Action.UPDATE
    record = desk.set_up(host)
    assert PROGRAM.encode() in desk.file(host).read_bytes()
    assert b"/old/venv" not in desk.file(host).read_bytes()
    assert record.previous
    undone = desk.undo()
    assert undone == [Undone.RESTORED, Undone.RESTORED]
    assert before != desk.tree()
    assert desk.file(host).read_bytes() == text_for(host).encode()


@each_host
@pytest.mark.parametrize(
    "command",
    [
        ("mcp-mailbox", "stdio"),
        ("uvx", "mcp-mailbox", "stdio"),
        ("/x/uvx", "mcp-mailbox==0.1", "stdio"),
        ("uvx", "--from", "mcp-mailbox[x]", "a"),
        ("python3", "-m", "mcp_mailbox", "stdio"),
    ],
)
def test_ours_is_known_however_it_was_registered(desk: Desk, host: Host, command: tuple[str, ...]) -> None:
    desk.set_up(host, Server(command), name="post")
    change = desk.plan(host)
    assert (change.action, change.name) == (Action.UPDATE, "post")


@pytest.mark.parametrize(
    "entry",
    [
        {"command": "npx", "args": ["mailbox"]},
        {"command": "/opt/other-mcp-mailbox"},
        {"command": "mcp-mailbox-x"},
        {"url": "http://x/"},
        {"command": "npx", "args": ["-y", "server-filesystem", "/home/u/src/mcp-mailbox"]},
        {"command": "uvx", "args": ["something", "/home/u/src/mcp-mailbox"]},
        {"command": ["/bin/cat", "mcp-mailbox"]},
        {"command": 1},
        "x",
        None,
    ],
)
def test_what_is_somebody_elses_is_never_ours(entry: Any) -> None:
    assert not is_ours(entry, STDIO)
    assert not is_ours(entry, OVER_HTTP)


@each_host
def test_another_server_of_the_name_is_left_alone_and_another_name_offered(desk: Desk, host: Host) -> None:
    theirs = Server(("/opt/theirs", "--serve"))
    written = host.write(theirs)
    assert written
    text, _ = host.format.put(text_for(host), (*host.servers, "mailbox"), written.needed)
    path = desk.write(host, text)
    change = desk.plan(host)
    assert change.action is Action.REFUSE
    assert "--name" in str(change.refused)
    desk.set_up(host, name="post")
    assert set(formats.at(host.format.read(path.read_bytes().decode()), host.servers)) >= {"mailbox", "post"}
    desk.undo()
    assert path.read_bytes().decode() == text


def test_what_somebody_added_to_our_entry_stays(desk: Desk) -> None:
    text = (
        '[mcp_servers.mailbox] # by hand\ncommand = "/old/mcp-mailbox"\nargs = ["stdio"]\n'
        'tool_timeout_sec = 900 # long\nrequired = false\n\n[mcp_servers.mailbox.env]\nMCP_MAILBOX_ADDRESS = "alice"\n'
    )
    path = desk.write(HOSTS["codex"], text)
    desk.set_up(HOSTS["codex"], Server(STDIO.command, {"MCP_MAILBOX_HOME": "/srv"}))
    assert path.read_text() == (
        f'[mcp_servers.mailbox] # by hand\ncommand = "{PROGRAM}"\nargs = ["stdio"]\ntool_timeout_sec = 900 # long\n'
        "required = false\nstartup_timeout_sec = 30\n\n"
        '[mcp_servers.mailbox.env]\nMCP_MAILBOX_ADDRESS = "alice"\nMCP_MAILBOX_HOME = "/srv"\n'
    )


@each_host
def test_a_server_that_is_called_now_is_started_no_more(desk: Desk, host: Host) -> None:
    if not host.write(OVER_HTTP):
        assert desk.plan(host, OVER_HTTP).action is Action.REFUSE
        return
    for first, second in ((STDIO, OVER_HTTP), (OVER_HTTP, STDIO)):
        desk.set_up(host, first)
        desk.set_up(host, second)
        entry = formats.at(host.format.read(desk.file(host).read_text()), (*host.servers, "mailbox"))
        kind = "http" if second.url else "stdio"
        assert entry.items() >= ENTRIES[host.name][kind].items()
        other = ENTRIES[host.name]["stdio" if second.url else "http"]
        assert not (
            entry.keys()
            & other.keys() - ENTRIES[host.name][kind].keys() - {"required", "startup_timeout_sec", "timeout"}
        )
        desk.undo()
    assert desk.tree() == {}


# -- a host that has us by our plugin (`plugins/`)


def test_beside_a_plugin_nothing_is_registered_that_would_be_there_twice(desk: Desk) -> None:
    claude, settings = HOSTS["claude"], desk.home / ".claude/settings.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"enabledPlugins": {PLUGIN: True}}))
    for change in (desk.plan(claude), desk.plan(claude, OVER_HTTP), plan_hooks(CLAUDE, Scope.USER, STDIO, desk.where)):
        assert change.action is Action.REFUSE
        assert f"claude plugin uninstall {PLUGIN}" in str(change.refused)
    for scope, server in ((Scope.PROJECT, STDIO), (Scope.USER, Server((PLUGIN_PROGRAM, "stdio")))):
        assert desk.plan(claude, server, scope).action is Action.ADD, (
            "others share a project; what is the same runs once"
        )
    settings.write_text(json.dumps({"enabledPlugins": {PLUGIN: False}}))
    assert desk.plan(claude).action is Action.ADD


def test_beside_a_plugin_codex_is_registered_under_its_name_and_no_other(desk: Desk) -> None:
    codex = HOSTS["codex"]
    desk.write(codex, f'[plugins."{PLUGIN}"]\nenabled = true\n')
    assert desk.plan(codex).action is Action.ADD
    assert desk.plan(codex, name="post").action is Action.REFUSE
