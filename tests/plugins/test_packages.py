"""The packages agree with the program, with each other, and with the formats of those who read them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mcp_mailbox import __version__, hook, machine, quotas
from mcp_mailbox.fronts.cli import habits
from mcp_mailbox.fronts.mcp import tools
from mcp_mailbox.setup.host import PLUGIN, PLUGIN_PROGRAM
from tests.fronts.test_tokens import cost

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"


def said(name: str) -> Any:
    return json.loads((PLUGINS / name).read_text())


MANIFESTS = [f"mailbox/{directory}/plugin.json" for directory in (".claude-plugin", ".codex-plugin")]


# -- the registry's entry


def test_the_registry_entry_is_what_its_schema_wants() -> None:
    """The schema is that of the registry's own address (MIT), which tests do not ask; 2025-12-11 is the newest."""
    schema = json.loads(Path(__file__).with_name("server.schema.json").read_text())
    entry = said("server.json")
    assert entry["$schema"] == schema["$id"]
    jsonschema.Draft7Validator(schema).validate(entry)


def test_every_package_has_the_version_of_the_program() -> None:
    entry = said("server.json")
    versions = [entry["version"], *(each["version"] for each in entry["packages"])]
    assert {*versions, *(said(manifest)["version"] for manifest in MANIFESTS)} == {__version__}


def test_readme_has_the_mark_by_which_the_registry_knows_the_package_is_ours() -> None:
    """As its `ReadmeDeclaresMCPName` reads it: the name, and behind it nothing that could belong to one."""
    marks = re.findall(r"mcp-name: ([A-Za-z0-9._/-]+)", (ROOT / "README.md").read_text())
    assert marks == [said("server.json")["name"]]


def test_the_registry_entry_has_each_setting_of_a_host_that_readme_has() -> None:
    [package] = said("server.json")["packages"]
    told = {each["name"] for each in package["environmentVariables"]}
    rows = re.findall(r"^\| (`MCP_MAILBOX_.*?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    of_serve = {value for name, value in vars(quotas).items() if name.endswith("_VARIABLE")}
    assert told == set(re.findall(r"`(\w+)`", " ".join(rows))) - of_serve - {"MCP_MAILBOX_GUARD"}


def test_what_all_hosts_share_has_no_default_there_for_one_that_is_set_is_another_than_none() -> None:
    """A client may set whatever has a default, and then the post office refuses all that do not (`_mismatch`)."""
    [package] = said("server.json")["packages"]
    fixed = {each["name"] for each in package["environmentVariables"] if {"default", "value"} & each.keys()}
    assert fixed.isdisjoint(machine.OFFICE_SETTINGS)
    assert machine.HOME_VARIABLE not in fixed, "no client puts a home in the place of ~"


def test_only_the_token_is_a_secret_of_the_registry_entry() -> None:
    def secrets(value: Any, name: str) -> Iterator[str]:
        if isinstance(value, dict):
            if value.get("isSecret"):
                yield name
            for key, each in value.items():
                yield from secrets(each, str(key))
        for each in value if isinstance(value, list) else ():
            yield from secrets(each, name)

    assert list(secrets(said("server.json"), "")) == ["token"]


# -- the plugins


def test_the_marketplace_has_the_plugin_by_the_name_that_doctor_looks_for() -> None:
    market = said(".claude-plugin/marketplace.json")
    [plugin] = market["plugins"]
    assert f"{plugin['name']}@{market['name']}" == PLUGIN
    assert (PLUGINS / plugin["source"]).is_dir()
    assert {said(manifest)["name"] for manifest in MANIFESTS} == {plugin["name"]}


def test_both_plugins_start_the_program_by_its_name_unless_its_path_is_given() -> None:
    claude, codex = map(said, MANIFESTS)
    assert claude["userConfig"]["program"]["default"] == PLUGIN_PROGRAM
    assert claude["mcpServers"]["mailbox"]["command"] == "${user_config.program}"
    assert codex["mcpServers"]["mailbox"]["command"] == PLUGIN_PROGRAM
    assert claude["mcpServers"]["mailbox"]["args"] == codex["mcpServers"]["mailbox"]["args"] == ["stdio"]


def test_both_plugins_have_the_hooks_that_the_program_knows_each_as_its_host_runs_them() -> None:
    """Claude Code puts an option into no line of a shell, so there the arguments stand apart; Codex knows no others."""
    claude, codex = (said("mailbox/" + said(manifest)["hooks"])["hooks"] for manifest in MANIFESTS)
    for event in hook.EVENTS:
        [[hooked]], [[told]] = ([each["hooks"] for each in events[event]] for events in (claude, codex))
        assert (hooked["command"], hooked["args"]) == ("${user_config.program}", ["hook", event])
        assert told["command"] == f"{PLUGIN_PROGRAM} hook {event}"
    assert claude.keys() == codex.keys() == set(hook.EVENTS)


def test_codex_hands_on_what_is_a_host_s_own_setting() -> None:
    """It gives a server nothing else of its environment."""
    [package] = said("server.json")["packages"]
    settings = {each["name"] for each in package["environmentVariables"]}
    handed_on = set(said(MANIFESTS[1])["mcpServers"]["mailbox"]["env_vars"])
    assert handed_on == settings - set(machine.OFFICE_SETTINGS)


# -- the skill


@pytest.mark.filterwarnings("ignore:open_binary is deprecated")
def test_the_skill_costs_less_than_300_tokens_head_and_all() -> None:
    assert cost(habits.skill()) < 300


def test_the_skill_names_tools_and_arguments_that_there_are() -> None:
    calls = re.findall(r"`(\w+)(?:\(([^`]*)\))?`", habits.skill())
    named = {name for name, _ in calls if name in tools.TOOLS}
    assert named == {"create_mailbox", "find_mailboxes", "reserve", "send", "settle", "wait_for_message"}
    for name, given in calls:
        if given:
            assert set(re.findall(r"(\w+)=", given)) <= tools.TOOLS[name].properties.keys()


def test_the_skill_s_head_is_what_hosts_read() -> None:
    _, head, _ = habits.skill().split("---\n", 2)
    assert re.fullmatch(r"name: mailbox\ndescription: [^\n]{1,1024}\n", head)
