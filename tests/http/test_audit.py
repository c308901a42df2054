"""The audit log: each call has a line, and none has a word of what mail says, nor a secret."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from mcp_mailbox import audit
from mcp_mailbox.audit import DONE, Entry, Trail
from tests.clocks import SteppedClock
from tests.conftest import DEADLINE
from tests.fronts.world import Home, Served, Town, until
from tests.http.caller import Caller, Json
from tests.http.conftest import Post
from tests.http.store import Store

pytestmark = pytest.mark.anyio
SECRET = "xyzzy"
"""Stands in all that the log must not have."""


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("h"), MCP_MAILBOX_AUDIT="on")
    yield served.start()
    served.end()


@pytest.fixture
def post(audited: Served) -> Post:
    return Post(audited)


def noted(post: Post, **wanted: str) -> list[Json]:
    return [each for each in audit.entries(post.home.path) if wanted.items() <= each.items()]


async def wait_for(post: Post, count: int = 1, **wanted: str) -> list[Json]:
    await until(lambda: len(noted(post, **wanted)) >= count, f"{count} of {wanted}")
    return noted(post, **wanted)


def raw(post: Post) -> str:
    return "".join(path.read_text() for path in post.home.path.glob("audit.jsonl*"))


async def test_a_whole_session_leaves_who_did_what_and_nothing_of_what_was_said(post: Post, tmp_path: Path) -> None:
    file = tmp_path / f"{SECRET}.txt"
    file.write_text(f"{SECRET} inside")
    issued = post.issue("ann", mailbox="ann")
    ann = post.caller(issued["token"])
    ann.call("create_mailbox", about=f"about {SECRET}", skills=[SECRET], status=f"{SECRET} now")
    sent = ann.call("send", to=["ann", f"{SECRET}-nobody"], subject=SECRET, body=f"body {SECRET}", topic=SECRET)
    [got] = ann.call("wait_for_message")["messages"]
    ann.call("read", id=sent["id"])
    ann.call("list_inbox", query=SECRET)
    ann.call("settle", ids=[got["id"], f"{SECRET}"], outcome="reject", reason=SECRET)
    ann.call("reserve", names=[f"{SECRET}.py"], note=SECRET)
    ann.call("subscribe", channel=f"#{SECRET}")
    ann.refused("read", id=SECRET)
    ann.refused("list_inbox", mailbox=f"{SECRET}-box")
    ann.refused("send", to=f"{SECRET}-nobody", body=SECRET)
    ann.alone("resources/read", uri=f"mailbox:{SECRET}")
    ann.begin()
    ann.within("tools/call", name="list_inbox", arguments={})
    local = Home(post.home.directory, **post.home.settings)
    env = {"MCP_MAILBOX_ATTACH": str(tmp_path)}
    async with Town(local, post.space).agent("own", env=env) as own:
        await own.call("send", to="own", subject=SECRET, body=SECRET, attach=[str(file)])
    who = {"request": "r", "space": post.space, "own": "own"}
    post.command("send", who=who, given={"to": "own", "subject": SECRET, "body": SECRET})
    rotated = post.command("token rotate", id=issued["id"])
    post.command("mail", mailbox="own", space=post.space)
    post.command("backup", path=str(tmp_path / f"{SECRET}.db"))
    post.command("token revoke", id=issued["id"])
    bad = f"mbx_{SECRET}{'A' * 40}"
    assert post.caller(bad).alone("tools/list").status == 401
    await wait_for(post, outcome="unauthorized")

    [line] = noted(post, verb="send", principal="ann", outcome=DONE)
    assert (line["credential"], line["mailbox"], line["way"]) == (issued["id"], f"ann@{post.space}", "http")
    assert (line["ids"], line["to"]) == ([sent["id"]], [f"ann@{post.space}"])
    assert [each["ids"] for each in noted(post, verb="wait_for_message", principal="ann")] == [[got["id"]]]
    assert [each["ids"] for each in noted(post, verb="settle", principal="ann")] == [[got["id"]]]
    assert noted(post, verb="read", outcome="unknown_message", principal="ann")
    assert noted(post, verb="list_inbox", outcome="unknown_mailbox", principal="ann")
    assert noted(post, verb="send", outcome="unknown_mailbox", principal="ann")
    assert noted(post, verb="send", principal="local", way="stdio", mailbox=f"own@{post.space}")
    assert noted(post, verb="send", principal="local", way="terminal", mailbox=f"own@{post.space}")
    for verb in ("token create", "token rotate", "token revoke"):
        assert issued["id"] in [id_ for each in noted(post, verb=verb) for id_ in each["ids"]], verb
    for verb in ("export", "backup"):
        assert noted(post, verb=verb, outcome=DONE)

    text = raw(post)
    for secret in (SECRET, issued["token"], rotated["token"], bad, post.home.token, ann.session["mcp_session_id"]):
        assert secret not in text
    assert {len(each.get("reader", "")) <= 16 for each in noted(post)} == {True}, "a whole id may be a key to something"
    for path in post.home.path.glob("audit.jsonl*"):
        assert path.stat().st_mode & 0o777 == 0o600


async def test_each_line_of_a_batch_of_an_edge_is_noted(post: Post) -> None:
    issued = post.issue("eve")
    edge = Store(post.caller(issued["token"]))
    edge.call("create_mailbox", edge.who(), name="eve")
    lines = [
        {"number": number, "who": edge.who(), "given": {"to": to, "body": SECRET}}
        for number, to in enumerate(("eve", "nobody", "eve"))
    ]
    ids = [answer["answer"]["id"] for answer in edge.sends(*lines) if "answer" in answer]
    done = await wait_for(post, 2, verb="send", principal="eve", outcome=DONE)
    assert [each["ids"] for each in done] == [[id_] for id_ in ids]
    assert {each["way"] for each in done} == {"edge"}
    [refused] = noted(post, verb="send", principal="eve", outcome="unknown_mailbox")
    assert refused["mailbox"] == f"eve@{post.space}"
    assert SECRET not in raw(post)


async def test_a_flood_of_bad_tokens_is_a_few_lines_that_say_how_many_there_were(post: Post) -> None:
    before = len(noted(post, outcome="unauthorized"))
    nobody = Caller(post.home.port, "mbx_wrong")
    for _ in range(100):
        assert nobody.ask(body={}).status == 401
    with anyio.fail_after(DEADLINE):
        await wait_for(post, 60, outcome="unauthorized")
    lines = noted(post, outcome="unauthorized")
    assert 50 <= len(lines) - before < 70
    assert lines[-1]["client"] == "127.0.0.1"


async def test_the_command_shows_what_is_asked_for(post: Post) -> None:
    eve = post.stranger("eve", mailbox="eve")
    eve.call("create_mailbox")
    eve.call("list_inbox")
    await wait_for(post, principal="eve", verb="list_inbox")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "mcp_mailbox", "audit", *arguments]
        environment = post.home.environment()
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)

    found = [json.loads(line) for line in run("--principal", "eve", "--since", "1h", "--json").stdout.splitlines()]
    assert [each["verb"] for each in found][-2:] == ["create_mailbox", "list_inbox"]
    assert {each["principal"] for each in found} == {"eve"}
    table = run("--principal", "eve", "--verb", "list_inbox").stdout.splitlines()
    assert len(table) == 2
    assert f"eve@{post.space}" in table[1]
    nothing = run("--principal", "nobody")
    assert (nothing.returncode, nothing.stdout) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "settings", "audited"),
    [
        ((), {}, False),
        (("--behind-proxy",), {}, True),
        (("--behind-proxy",), {"MCP_MAILBOX_AUDIT": "off"}, False),
    ],
    ids=["on this machine", "beyond", "beyond, but off"],
)
def test_calls_are_audited_when_others_can_come(
    new_home: Callable[..., Served], arguments: tuple[str, ...], settings: dict[str, str], audited: bool
) -> None:
    home = new_home(*arguments, **settings).start()
    assert home.status()["audited"] is audited
    home.end()
    assert (home.path / "audit.jsonl").exists() is False, "nothing was asked"


# -- the file


async def write(trail: Trail, entries: list[Entry]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(trail.run)
        await anyio.wait_all_tasks_blocked()
        for each in entries:
            trail.note(each)
        tasks.cancel_scope.cancel()


async def test_the_log_is_rotated_by_its_size_and_keeps_so_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "LIMIT", 1000)
    for number in range(40):
        await write(Trail(tmp_path, SteppedClock().now), [Entry(f"verb {number}", DONE, "stdio") for _ in range(10)])
    older = {f"audit.jsonl.{number}" for number in range(1, audit.OLDER + 1)}
    assert {path.name for path in tmp_path.iterdir()} - {"audit.jsonl"} == older  # noqa: ASYNC240 - nobody waits
    verbs = [each["verb"] for each in audit.entries(tmp_path)]
    assert verbs == sorted(verbs, key=lambda verb: int(verb.split()[1]))
    assert verbs[-1] == "verb 39"


async def test_what_stands_half_in_the_log_spoils_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").write_text('{"at": "2026-11-25T00:00:00Z", "verb": "a"}\n{"at": "2026-\n[]\n\0\xff\n')
    await write(Trail(tmp_path, SteppedClock().now), [Entry("b", DONE, "stdio")])
    assert [each["verb"] for each in audit.entries(tmp_path)] == ["a", "b"]


async def test_a_disk_that_takes_nothing_loses_no_call_and_is_said_afterwards(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    trail = Trail(tmp_path, SteppedClock().now)
    await write(trail, [Entry("lost", DONE, "stdio")] * 3)
    (tmp_path / "audit.jsonl").rmdir()
    await write(trail, [Entry("kept", DONE, "stdio")])
    found = [(each["verb"], each.get("suppressed")) for each in audit.entries(tmp_path)]
    assert found == [("kept", None), ("dropped", 3)]
