"""Files that agents send each other, over stdio and HTTP: who may, what arrives, what is said where it cannot."""

from __future__ import annotations

import base64
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError

from mcp_mailbox.fronts.render import PAGE_LIMIT, WAIT_LIMIT, size
from tests.fronts.world import LEGACY, MODERN, Agent, Era, Home, Served, Town, asking, both_eras, until

pytestmark = both_eras
PNG = b"\x89PNG\r\n\x1a\n\0" + bytes(range(256)) * 100
LONG = "".join(f"line {number} äöü\n" for number in range(5000))


class Project:
    """A town whose agents on stdio work in a directory of which they may give."""

    def __init__(self, town: Town, directory: Path) -> None:
        self.town = town
        self.directory = directory
        (directory / "docs").mkdir()
        (directory / "docs" / "plan.md").write_text("the plan")
        (directory / "long.txt").write_text(LONG)
        (directory / "a.png").write_bytes(PNG)

    @asynccontextmanager
    async def pair(self, era: Era = LEGACY, **env: str) -> AsyncIterator[tuple[Agent, Agent]]:
        """Two agents, both of whom may give files."""
        given = {"MCP_MAILBOX_ATTACH": str(self.directory), **env}
        async with (
            self.town.agent("alice", era, env=given) as alice,
            self.town.agent("bob", era, env=given) as bob,
        ):
            yield alice, bob

    def path(self, name: str) -> str:
        return str(self.directory / name)


@pytest.fixture
def project(town: Town, tmp_path: Path) -> Project:
    return Project(town, tmp_path)


@pytest.fixture
def new_project(new_town: Callable[..., Town], tmp_path: Path) -> Callable[..., Project]:
    return lambda **settings: Project(new_town(**settings), tmp_path)


def content_of(path: str) -> bytes:
    return Path(path).read_bytes()


# -- on stdio


@pytest.mark.stdio("only who is on this machine gives files")
async def test_files_arrive_with_the_message_and_can_be_read(project: Project, era: Era) -> None:
    async with project.pair(era) as (alice, bob):
        names = ["docs/plan.md", "a.png"]
        sent = await alice.send("bob", "see", attach=[project.path(name) for name in names])
        told = [
            {"name": "plan.md", "type": "text/markdown", "size": 8},
            {"name": "a.png", "type": "image/png", "size": len(PNG)},
        ]
        [preview] = (await bob.call("list_inbox"))["messages"]
        [hit] = (await bob.call("list_inbox", query="plan.md"))["messages"]
        got = await bob.wait_one()
        mine = await alice.call("read", id=sent["id"])
        assert [each["attachments"] for each in (preview, hit, got, mine)] == [told] * 4
        text = {"attachment": "plan.md", "type": "text/markdown", "size": 8, "body": "the plan"}
        for agent, id_ in ((bob, got["id"]), (bob, sent["id"]), (alice, sent["id"])):
            assert await agent.call("read", id=id_, attachment="plan.md") == {"id": id_, **text}
        shown = await bob.call("read", id=got["id"], attachment="a.png")
        assert "body" not in shown
        assert content_of(shown["path"]) == PNG
        assert shown["path"].endswith("/a.png")
        assert os.stat(shown["path"]).st_mode & 0o777 == 0o400  # noqa: PTH116
        [resource] = (await bob.client.read_resource(shown["uri"])).contents
        assert isinstance(resource, types.BlobResourceContents)
        assert (base64.b64decode(resource.blob), resource.mime_type) == (PNG, "image/png")
        [resource] = (await bob.client.read_resource(f"{bob.uri}/{sent['id']}/plan.md")).contents
        assert isinstance(resource, types.TextResourceContents)
        assert (resource.text, resource.mime_type) == ("the plan", "text/markdown")
        assert (await bob.resource(f"{bob.uri}/{sent['id']}"))["attachments"] == told


@pytest.mark.stdio("only who is on this machine gives files")
async def test_a_long_text_is_read_in_pages_and_lies_in_a_file_too(project: Project) -> None:
    async with project.pair() as (alice, bob):
        sent = await alice.send("bob", "see", attach=project.path("long.txt"))
        shown = await bob.call("read", id=sent["id"], attachment="long.txt")
        assert content_of(shown["path"]).decode() == LONG
        text = ""
        while True:
            assert size(shown) <= WAIT_LIMIT
            text += shown["body"]
            if "more" not in shown:
                break
            shown = await bob.call("read", id=sent["id"], attachment="long.txt", offset=shown["more"])
        assert text == LONG
        too_far = await bob.refused("read", id=sent["id"], attachment="long.txt", offset=10**6)
        assert too_far["error"] == "bad_argument"


@pytest.mark.stdio("only who is on this machine gives files")
async def test_who_may_not_give_files_is_told_what_to_set_and_who_may_where_from(project: Project) -> None:
    (project.directory / "secret").symlink_to("/etc/hostname")
    async with project.town.agent("alice") as alice:
        problem = await alice.refused("send", to="alice", body="x", attach=[project.path("a.png")])
        assert problem["error"] == "forbidden"
        assert "MCP_MAILBOX_ATTACH" in problem["hint"]
        assert await alice.refused("send", to="alice", body="x", attach=["/etc/hostname"]) == problem
    async with project.pair() as (alice, _):
        hints = set()
        for path in ("/etc/hostname", "/nowhere", project.path("secret"), project.path("nothing")):
            problem = await alice.refused("send", to="bob", body="x", attach=[project.path("a.png"), path])
            assert problem["error"] == "no_file"
            hints.add(problem["hint"])
        assert len(hints) == 1
        assert await alice.bodies() == []


@pytest.mark.stdio("relative to where a relay runs")
async def test_relative_paths_begin_where_the_host_runs(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.directory)  # the relay's is its host's
    async with project.town.agent("alice", env={"MCP_MAILBOX_ATTACH": "."}) as alice:
        sent = await alice.send("alice", "x", attach=["docs/plan.md", "./long.txt"])
        assert (await alice.call("read", id=sent["id"], attachment="plan.md"))["body"] == "the plan"
        assert (await alice.refused("send", to="alice", body="x", attach=["../x"]))["error"] == "no_file"


@pytest.mark.stdio("only who is on this machine gives files")
@pytest.mark.parametrize(
    ("attach", "code"),
    [
        (["a.png"] * 11, "bad_argument"),
        ([""], "bad_argument"),
        (["docs"], "no_file"),
        ([7], "bad_argument"),
        ({"a": 1}, "bad_argument"),
        (["a\0"], "no_file"),
    ],
)
async def test_what_cannot_be_attached_is_refused_with_a_hint(project: Project, attach: object, code: str) -> None:
    if isinstance(attach, list):
        attach = [project.path(each) if isinstance(each, str) and each else each for each in attach]
    async with project.pair() as (alice, bob):
        assert (await alice.refused("send", to="bob", body="x", attach=attach))["error"] == code
        assert await bob.bodies() == []


@pytest.mark.stdio("only who is on this machine gives files")
async def test_one_path_alone_a_list_as_text_and_nothing_are_read_as_what_was_meant(project: Project) -> None:
    async with project.pair() as (alice, bob):
        plan = project.path("docs/plan.md")
        for attach in (plan, [plan], f'["{plan}"]'):
            await alice.send("bob", "x", attach=attach)
        await alice.send("bob", "x", attach=None)
        await alice.send("bob", "x", attach=[])
        shown = [each.get("attachments") for each in await bob.wait()]
        assert [each and each[0]["name"] for each in shown] == ["plan.md"] * 3 + [None] * 2


@pytest.mark.stdio("only who is on this machine gives files")
async def test_names_that_are_the_same_are_told_apart(project: Project) -> None:
    (project.directory / "plan.md").write_text("another")
    async with project.pair() as (alice, bob):
        sent = await alice.send("bob", "x", attach=[project.path("docs/plan.md"), project.path("plan.md")])
        assert (await bob.call("read", id=sent["id"], attachment="plan-2.md"))["body"] == "another"
        problem = await bob.refused("read", id=sent["id"], attachment="plan-3.md")
        assert problem["error"] == "unknown_attachment"
        assert "'plan.md', 'plan-2.md'" in problem["hint"]


@pytest.mark.stdio("only who is on this machine gives files")
async def test_a_page_stays_small_whatever_is_attached(project: Project) -> None:
    paths = []
    for number in range(10):
        paths.append(project.path(f"{number}{'ü' * 80}.txt"))
        Path(paths[-1]).write_text("x")  # noqa: ASYNC240
    async with project.pair() as (alice, bob):
        for _ in range(12):
            sent = await alice.send("bob", "x", attach=paths)
        page = await bob.call("list_inbox")
        assert size(page) <= PAGE_LIMIT
        first = page["messages"][0]
        assert len(first["attachments"]) + first["more_attachments"] == 10
        assert size({"messages": await bob.wait()}) <= WAIT_LIMIT
        assert len((await bob.call("read", id=sent["id"]))["attachments"]) == 10


@pytest.mark.stdio("only who is on this machine gives files")
async def test_limits_are_the_users_to_set_and_nothing_stays_of_what_is_too_large(
    new_project: Callable[..., Project],
) -> None:
    project = new_project(MCP_MAILBOX_ATTACH_FILE_MIB="0.01", MCP_MAILBOX_ATTACH_TOTAL_MIB="0.015")
    (project.directory / "large").write_bytes(b"x" * 10_486)
    (project.directory / "fits").write_bytes(b"y" * 10_485)
    (project.directory / "more").write_bytes(b"z" * 8_000)
    async with project.pair() as (alice, bob):
        for names, said in ((["large"], "0.01 MiB"), (["fits", "more"], "0.015 MiB")):
            problem = await alice.refused("send", to="bob", body="x", attach=[project.path(name) for name in names])
            assert problem["error"] == "attachment_too_large"
            assert said in problem["message"]
        assert project.town.home.status()["attachments"]["bytes"] == 0
        await alice.send("bob", "x", attach=[project.path("fits"), project.path("docs/plan.md")])
        assert await bob.bodies() == ["x"]


@pytest.mark.stdio("kills the post office")
async def test_a_send_that_a_crash_interrupts_is_asked_again_and_done_once(
    new_project: Callable[..., Project],
) -> None:
    project = new_project(MCP_MAILBOX_ATTACH_FILE_MIB="100")

    def write(path: str, beginning: str) -> None:
        Path(path).write_text(beginning)
        os.truncate(path, 64 << 20)

    def leftovers() -> list[Path]:
        return list(project.town.home.path.glob("mail.db.attachments/.*"))

    async with project.pair() as (alice, bob):
        interrupted = False
        bodies: list[str] = []
        while not interrupted:
            bodies.append(str(len(bodies)))
            write(project.path("big"), bodies[-1])  # what is there already is not written again
            async with asking(lambda: alice.send("bob", bodies[-1], attach=project.path("big"))) as sending:
                await until(lambda: sending.done or bool(leftovers()), "it is being written")
                if not sending.done:  # else it was written between two looks
                    project.town.home.signal_office(signal.SIGKILL)
                    interrupted = True
                sent = await sending.answer()
        assert sorted(await bob.bodies()) == bodies
        shown = await bob.call("read", id=sent["id"], attachment="big")
        assert content_of(shown["path"]) == content_of(project.path("big"))
        await until(lambda: not leftovers(), "what the crash left is cleared away")


@pytest.mark.stdio("damages a file")
async def test_what_is_lost_is_told_and_the_message_goes_on_being_readable(new_project: Callable[..., Project]) -> None:
    project = new_project()
    async with project.pair() as (alice, bob):
        await alice.send("bob", "x", attach=project.path("a.png"))
        shutil.rmtree(project.town.home.path / "mail.db.attachments")
        got = await bob.wait_one()
        problem = await bob.refused("read", id=got["id"], attachment="a.png")
        assert problem["error"] == "store_damaged"
        assert "is missing; the message can be read without it" in problem["message"]
        with pytest.raises(MCPError, match="is missing"):
            await bob.client.read_resource(f"{bob.uri}/{got['id']}/a.png")
        assert (await bob.call("read", id=got["id"]))["body"] == "x"
        assert (await bob.call("settle", ids=[got["id"]], outcome="ack"))["settled"] == [got["id"]]


# -- over HTTP


async def test_who_is_not_the_recipient_learns_nothing(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        sent = await alice.send("alice", "x")
        for name in ("a", "../a", "%2e%2e"):
            problem = await bob.refused("read", id=sent["id"], attachment=name)
            assert problem["error"] == "unknown_message"
            with pytest.raises(MCPError, match="Resource not found"):
                await bob.client.read_resource(f"{bob.uri}/{sent['id']}/{name}")
        assert (await alice.refused("read", id=sent["id"], attachment="a"))["error"] == "unknown_attachment"
        with pytest.raises(MCPError, match="Resource not found"):
            await alice.client.read_resource(f"{alice.uri}/{sent['id']}/a")


@pytest.mark.parametrize("era_of_reader", [LEGACY, MODERN])
async def test_over_http_files_are_received_and_none_is_given(
    served_home: Served, tmp_path: Path, era_of_reader: Era
) -> None:
    space = f"attach-{era_of_reader}"
    relays = Home(served_home.directory)  # the same store
    project = Project(Town(relays, space), tmp_path)
    given = {"MCP_MAILBOX_ATTACH": str(tmp_path)}
    async with (
        Town(served_home, space).agent("bob", era_of_reader, env=given) as bob,
        project.town.agent("alice", env=given) as alice,
    ):
        problem = await bob.refused("send", to="alice", body="x", attach=[project.path("a.png")])
        assert problem["error"] == "forbidden"
        assert "Over HTTP" in problem["message"]
        assert await bob.refused("send", to="alice", body="x", attach=["/nowhere"]) == problem
        sent = await alice.send("bob", "see", attach=[project.path("a.png"), project.path("long.txt")])
        got = await bob.wait_one()
        assert [each["name"] for each in got["attachments"]] == ["a.png", "long.txt"]
        shown = await bob.call("read", id=sent["id"], attachment="a.png")
        assert "path" not in shown
        [resource] = (await bob.client.read_resource(shown["uri"])).contents
        assert isinstance(resource, types.BlobResourceContents)
        assert base64.b64decode(resource.blob) == PNG
        shown = await bob.call("read", id=sent["id"], attachment="long.txt")
        assert "path" not in shown
        [resource] = (await bob.client.read_resource(shown["uri"])).contents
        assert isinstance(resource, types.TextResourceContents)
        assert resource.text == LONG
