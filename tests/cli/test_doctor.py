"""`mcp-mailbox doctor`: each thing that can be wrong, how it is told, and that nothing is changed by looking."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mcp_mailbox import __version__, frames, rendezvous
from mcp_mailbox.addresses import Address
from mcp_mailbox.doorbell import OVER, Outcome, Pointer, Result, Ring
from mcp_mailbox.doorbells.journal import Journal
from mcp_mailbox.setup.host import Host, Scope, Server, Surroundings
from mcp_mailbox.setup.hosts import HOSTS
from tests.cli.person import Home, Person, plain
from tests.relay.world import World


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Person]:
    """Somebody with a home of his own, and a host that has us registered."""
    home = Home(tmp_path / "home")
    home.directory.mkdir()
    program = {"mcpServers": {"mailbox": {"command": sys.executable, "args": ["-m", "mcp_mailbox", "stdio"]}}}
    (home.directory / ".claude.json").write_text(json.dumps(program))
    yield home.person()
    home.end()


def found(person: Person, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """Return the findings that are not well, or all of them, by what was looked at."""
    answer = person.json("doctor", *arguments, code=code)
    assert answer["ok"] is (code == 0)
    return {each["what"]: each for each in answer["findings"]}


def trouble(person: Person, code: int = 1, *arguments: str) -> dict[str, str]:
    """Return what is not well, each with its fix."""
    return {
        what: f"{each['details']} | {each['fix']}"
        for what, each in found(person, *arguments, code=code).items()
        if each["how"] != "ok"
    }


def everything(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return each file and directory; of a directory not when it changed, which the work of a post office does."""
    return {
        str(path): (
            path.stat().st_mode,
            path.stat().st_mtime_ns if path.is_file() else 0,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(directory.rglob("*"))
        if not path.name.startswith(("mail.db", "search.db"))  # a post office has work of its own, after a start
    }


def test_a_store_whose_clock_was_once_far_ahead_says_so(alone: Person) -> None:
    alone.run("inbox")
    alone.run("stop")
    with closing(sqlite3.connect(alone.home.store / "mail.db")) as db, db:
        db.execute("UPDATE meta SET value = value + 100 * 86400000 + 43200000 WHERE name = 'time'")
    alone.run("inbox")
    assert "100 d ahead" in found(alone)["store, time"]["details"]


def test_where_nothing_has_been_yet_all_is_well_and_stays_nothing(alone: Person) -> None:
    before = everything(alone.home.directory)
    assert trouble(alone, 0) == {}
    assert alone.run("doctor").returncode == 0
    assert everything(alone.home.directory) == before


def test_of_a_post_office_that_runs_everything_is_looked_at_and_nothing_changed(alone: Person) -> None:
    alone.sends("ann")
    alone.home.end()
    alone.run("agents")  # starts it again; no mail is written from here on
    alone.run("doctor")
    before = everything(alone.home.directory)
    looked_at = found(alone)
    assert {each["how"] for each in looked_at.values()} == {"ok"}
    assert set(looked_at) == {
        "home", "permissions", "disk", "store", "store, whole", "post office", "versions", "log", "Claude Code",
    }  # fmt: skip
    assert looked_at["store, whole"]["details"] == "SQLite finds nothing wrong"
    assert "store, whole" not in found(alone, "--quick")
    assert everything(alone.home.directory) == before
    [mail] = alone.json("inbox", "--mailbox", "ann")["messages"]
    assert mail["state"] == "stored", "nobody has seen it"


def test_what_is_shown_to_a_person_is_a_line_each_and_the_fix_below(alone: Person) -> None:
    alone.sends("ann")
    alone.home.store.chmod(0o755)
    done = alone.run("doctor")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    number = next(number for number, line in enumerate(lines) if line.startswith("wrong"))
    assert lines[number].split()[:2] == ["wrong", "permissions"]
    assert lines[number + 1].strip() == f"Run `chmod -R go= {alone.home.store}`: it is your mail."
    os.system(lines[number + 1].split("`")[1])
    assert alone.run("doctor").returncode == 0, "the fix is one"


def test_a_home_that_is_none_is_told(alone: Person, tmp_path: Path) -> None:
    alone.environment["MCP_MAILBOX_HOME"] = str(tmp_path / "file")
    (tmp_path / "file").write_text("")
    told = trouble(alone)
    assert "Set MCP_MAILBOX_HOME" in told["home"]
    assert not {"store", "log"} & told.keys(), "what is not there is not to be mended"


def test_a_file_that_is_no_store_is_told(alone: Person) -> None:
    alone.home.store.mkdir(0o700)
    (alone.home.store / "mail.db").write_bytes(b"years of work")
    (alone.home.store / "mail.db").chmod(0o600)
    told = trouble(alone)
    assert "is no store" in told["store"]
    assert "mcp-mailbox restore FILE --force" in told["store"]


def test_a_store_that_is_damaged_is_told_with_the_way_back(alone: Person) -> None:
    for number in range(30):
        alone.sends("ann", f"{number} " * 400)
    alone.home.end()
    with closing(sqlite3.connect(alone.home.store / "mail.db")) as db:
        [page] = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'message_accepted'").fetchone()
        [size] = db.execute("PRAGMA page_size").fetchone()
    alone.run("agents")
    with (alone.home.store / "mail.db").open("r+b") as file:
        file.seek((page - 1) * size + size // 2)
        file.write(b"\xff" * (size // 2))
    told = trouble(alone)
    assert list(told) == ["store, whole"]
    assert "mcp-mailbox restore FILE --force" in told["store, whole"]


def test_a_post_office_that_does_not_answer_is_told(alone: Person) -> None:
    alone.home.store.mkdir(0o700)
    lock = rendezvous.hold(str(alone.home.store))
    assert lock is not None
    (alone.home.store / "office.endpoint").write_text(f"unix {alone.home.store}/office.sock\n")
    (alone.home.store / "office.endpoint").chmod(0o600)
    try:
        told = trouble(alone)
    finally:
        os.close(lock)
    assert "does not answer" in told["post office"]
    assert "mcp-mailbox stop" in told["post office"]


def test_an_older_post_office_that_runs_is_told(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        world.host(package=world.newer("0.0.1")).ask("echo")
        person = Home(tmp_path / "somebody")
        person.directory.mkdir()
        one = person.person()
        one.environment["MCP_MAILBOX_HOME"] = str(world.home)
        told = trouble(one, 0, "--quick")
        assert f"0.0.1 is running, this is {__version__}" in told["versions"]
        assert "mcp-mailbox stop" in told["versions"]
    finally:
        world.end()


def test_a_newer_program_that_has_been_used_is_told(alone: Person) -> None:
    alone.home.store.mkdir(0o700)
    rendezvous.record_program(str(alone.home.store), "99.0.0", ["/elsewhere/python"])
    assert "99.0.0 has been used with this store | Use that one: /elsewhere/python" in trouble(alone, 0)["versions"]


def test_errors_in_the_log_are_told(alone: Person) -> None:
    alone.run("agents")
    answer = rendezvous.ask(str(alone.home.store), frames.STATUS)
    assert answer is not None
    with Path(rendezvous.log_path(str(alone.home.store))).open("a") as log:
        log.write("2026-11-25 12:00:00,000 ERROR mcp_mailbox.office: something \x1b[2J broke\n")
    assert "something \x1b[2J broke" in trouble(alone, 0)["log"]
    assert "something ␛[2J broke" in alone.run("doctor").stdout


@pytest.mark.parametrize(
    ("file", "text", "host", "said"),
    [
        (".claude.json", '{"mcpServers": {"mailbox": {"command": "/gone/mcp-mailbox"}}}', "Claude Code", "not there"),
        (".claude.json", "{", "Claude Code", "cannot be read"),
        (".codex/config.toml", '[mcp_servers.mailbox]\ncommand = "/gone/mcp-mailbox"\n', "Codex", "not there"),
        (".codex/config.toml", "[", "Codex", "cannot be read"),
    ],
)
def test_a_registration_that_cannot_be_right_is_told(alone: Person, file: str, text: str, host: str, said: str) -> None:
    path = alone.home.directory / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    told = trouble(alone)
    assert said in told[host]
    assert str(path) in told[host]


def test_hosts_that_know_us_rightly_are_told_and_others_not(alone: Person) -> None:
    (alone.home.directory / ".claude.json").write_text('{"mcpServers": {"other": {"command": "other"}}}')
    assert "no host" in trouble(alone, 0)["hosts"]
    codex = alone.home.directory / ".codex"
    codex.mkdir()
    (codex / "config.toml").write_text('[mcp_servers.mailbox]\nurl = "http://127.0.0.1:8765/mcp"\n')
    looked_at = found(alone)
    assert "http://127.0.0.1:8765/mcp" in looked_at["Codex"]["details"]
    (alone.home.directory / ".claude.json").write_text('\ufeff{"mcpServers": {}}')  # `setup` reads that, too
    assert "Claude Code" not in looked_at
    assert "hosts" not in looked_at


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        pytest.param(host, scope, id=f"{host.name}-{scope}")
        for host in HOSTS.values()
        for scope in Scope
        if scope is Scope.USER or host.name != "claude-desktop"
    ],
)
def test_every_host_that_setup_registers_is_looked_at(alone: Person, host: Host, scope: Scope) -> None:
    user, project = alone.home.directory / "user", alone.home.directory
    user.mkdir()
    alone.environment["HOME"] = str(user)
    file = host.files(Surroundings.of(alone.environment, project, mac=sys.platform == "darwin"), scope)[0]
    written = host.write(Server((sys.executable, "-m", "mcp_mailbox", "stdio")))
    assert written
    text, _ = host.format.put(host.fresh, (*host.servers, "post"), written.needed)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    looked_at = found(alone)
    assert "hosts" not in looked_at
    what = host.title if scope is Scope.USER else "this project"
    assert looked_at[what]["details"] == f"post: {sys.executable} -m mcp_mailbox stdio ({file})"


def test_in_the_home_directory_a_file_is_told_once(alone: Person) -> None:
    file = alone.home.directory / ".cursor/mcp.json"
    file.parent.mkdir()
    file.write_text('{"mcpServers": {"mailbox": {"command": "/gone/mcp-mailbox"}}} // mine')
    told = trouble(alone)
    assert list(told) == ["Cursor"]


# -- our plugin in a host (`plugins/`)


@pytest.fixture
def plugged(alone: Person) -> Person:
    """Somebody whose Claude Code and Codex have the plugin, and nothing else of ours."""
    for file, text in {
        ".claude.json": "{}",
        ".claude/settings.json": json.dumps(
            {
                "enabledPlugins": {"mailbox@mcp-mailbox": True},
                "pluginConfigs": {"mailbox@mcp-mailbox": {"options": {"program": sys.executable}}},
            }
        ),
        ".codex/config.toml": '[plugins."mailbox@mcp-mailbox"]\nenabled = true\n',
        "bin/mcp-mailbox": "#!/bin/sh\n",
    }.items():
        path = alone.home.directory / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    path.chmod(0o755)
    alone.environment["PATH"] += f":{path.parent}"
    return alone


def test_a_host_that_has_us_by_a_plugin_is_told_and_what_that_starts(plugged: Person) -> None:
    told = {what: each["details"] for what, each in found(plugged).items()}
    assert f"plugin mailbox@mcp-mailbox: {sys.executable} stdio" in told["Claude Code"]
    assert "plugin mailbox@mcp-mailbox: mcp-mailbox stdio" in told["Codex"]
    plugged.environment["PATH"] = "/usr/bin:/bin"
    assert "mcp-mailbox is not there. Put it on the PATH" in trouble(plugged)["Codex"]


def test_what_a_plugin_and_setup_have_both_put_there_is_told(plugged: Person) -> None:
    directory = plugged.home.directory
    entry = {"mcpServers": {"post": {"command": sys.executable, "args": ["-m", "mcp_mailbox", "stdio"]}}}
    (directory / ".claude.json").write_text(json.dumps(entry))
    told = trouble(plugged)["Claude Code"]
    assert "it is there twice: run `mcp-mailbox setup --undo --host claude`, or `claude plugin uninstall" in told
    entry["mcpServers"]["post"]["args"] = ["stdio"]
    (directory / ".claude.json").write_text(json.dumps(entry))
    assert trouble(plugged, 0) == {}, "of two that are the same, Claude Code starts one"
    (directory / ".claude.json").write_text("{}")
    settings = directory / ".claude/settings.json"
    hook = {"hooks": [{"type": "command", "command": "/opt/mcp-mailbox hook Stop"}]}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"hooks": {"Stop": [hook]}}))
    assert trouble(plugged)["Claude Code"].startswith(f"hooks ({settings}) | The plugin has it, too")


def test_in_codex_an_entry_of_the_plugin_s_name_takes_its_place(plugged: Person) -> None:
    config = plugged.home.directory / ".codex/config.toml"
    entry = f'[mcp_servers.NAME]\ncommand = "{sys.executable}"\nargs = ["-m", "mcp_mailbox", "stdio"]\n'
    plugin = config.read_text()
    config.write_text(plugin + entry.replace("NAME", "mailbox"))
    assert trouble(plugged, 0) == {}
    config.write_text(plugin + entry.replace("NAME", "post"))
    assert "it is there twice" in trouble(plugged)["Codex"]


# -- doorbells


@pytest.mark.parametrize("entry", [{"command": "mcp-mailbox"}, {"url": "http://127.0.0.1:8765/mcp"}])
def test_a_host_that_has_no_bell_is_said_to_have_none_and_nothing_is_to_be_mended(alone: Person, entry: Any) -> None:
    (alone.home.directory / "bin").mkdir()
    (alone.home.directory / "bin/mcp-mailbox").touch(0o755)
    alone.environment["PATH"] += f":{alone.home.directory / 'bin'}"
    file = alone.home.directory / ".gemini/settings.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"mcpServers": {"mailbox": entry}}))
    told = found(alone)["doorbells"]
    assert told["how"] == "ok"
    assert told["details"].startswith("Gemini CLI is not rung: ")


@pytest.mark.parametrize("word", ["No", "0"])
def test_a_host_that_wants_quiet_in_other_words_is_seen_to_want_it(alone: Person, word: str) -> None:
    entry = {"command": sys.executable, "args": ["-m", "mcp_mailbox", "stdio"], "env": {"MCP_MAILBOX_DOORBELL": word}}
    (alone.home.directory / ".claude.json").write_text(json.dumps({"mcpServers": {"mailbox": entry}}))
    assert f"Claude Code is not rung: MCP_MAILBOX_DOORBELL={word}" in found(alone)["doorbells"]["details"]


def test_a_host_over_http_cannot_be_rung_and_one_that_wants_quiet_is_left_alone(alone: Person) -> None:
    codex = alone.home.directory / ".codex"
    codex.mkdir()
    (codex / "config.toml").write_text('[mcp_servers.mailbox]\nurl = "http://127.0.0.1:8765/mcp"\n')
    told = trouble(alone, 0)["doorbells"]
    assert told.startswith("Codex is not rung: over HTTP")
    assert "mcp-mailbox setup" in told
    entry = {"command": sys.executable, "args": ["-m", "mcp_mailbox", "stdio"], "env": {"MCP_MAILBOX_DOORBELL": "off"}}
    (alone.home.directory / ".claude.json").write_text(json.dumps({"mcpServers": {"mailbox": entry}}))
    (codex / "config.toml").unlink()
    looked_at = found(alone)["doorbells"]
    assert looked_at["how"] == "ok"
    assert "Claude Code is not rung: MCP_MAILBOX_DOORBELL=off" in looked_at["details"]


def test_a_host_of_another_home_gets_no_ring_from_this_one(alone: Person) -> None:
    entry = {
        "command": sys.executable,
        "args": ["-m", "mcp_mailbox", "stdio"],
        "env": {"MCP_MAILBOX_HOME": "/elsewhere"},
    }
    (alone.home.directory / ".claude.json").write_text(json.dumps({"mcpServers": {"mailbox": entry}}))
    assert "another home, /elsewhere" in trouble(alone, 0)["doorbells"]


def test_an_opencode_is_told_to_have_a_port_until_it_was_rung(alone: Person) -> None:
    """Neither its file nor anything else that lies about says whether it was started with one."""
    base = alone.home.directory / ".config/opencode"
    base.mkdir(parents=True)
    entry = {"type": "local", "command": [sys.executable, "-m", "mcp_mailbox", "stdio"]}
    (base / "opencode.jsonc").write_text(json.dumps({"mcp": {"mailbox": entry}}) + " // mine")
    told = trouble(alone, 0)["doorbells"]
    assert told.startswith("OpenCode is not rung")
    assert "opencode --port 0" in told
    alone.home.store.mkdir(mode=0o700)
    pointer = Pointer(1, Address("builder", "default"), 1, (Address("planner", "default"),))
    Journal(alone.home.store).note(Ring("opencode", Result(Outcome.FAILED, "opencode has no port open"), pointer))
    assert "opencode has no port open | Start it as `opencode --port 0`" in trouble(alone, 0)["doorbells"]
    Journal(alone.home.store).note(Ring("opencode", Result(Outcome.RUNG), pointer))
    assert trouble(alone, 0) == {}


def test_a_thread_that_has_woken_agents_too_often_is_told(alone: Person) -> None:
    alone.home.store.mkdir(mode=0o700)
    journal = Journal(alone.home.store)
    told = Pointer(1, Address("builder", "default"), 1, (Address("planner", "default"),))
    journal.note(Ring("codex", Result(Outcome.SKIPPED, f"its thread has woken agents 60 {OVER}"), told))
    assert "builder@default is not rung: its thread has woken agents 60" in trouble(alone, 0)["doorbells"]


def test_a_last_ring_that_failed_is_told_with_what_mends_it_until_one_goes_well(alone: Person) -> None:
    alone.home.store.mkdir(mode=0o700)
    journal = Journal(alone.home.store)
    told = Pointer(1, Address("builder", "default"), 1, (Address("planner", "default"),))
    journal.note(Ring("codex", Result(Outcome.FAILED, "no program codex is found"), told))
    assert "builder@default (codex) failed: no program codex is found | Put `codex`" in trouble(alone, 0)["doorbells"]
    journal.note(Ring("codex", Result(Outcome.RUNG), told))
    assert trouble(alone, 0) == {}


def test_nothing_of_what_is_wrong_is_cut_however_narrow_the_terminal(alone: Person) -> None:
    _, drawn = alone.terminal("doctor", "--quick", columns=20)
    assert "is not there yet; the first call of a host makes it" in plain(drawn)
