"""Attachments at the post office: who asks again, what grows meanwhile, copies for who is on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcp_mailbox.attachment import Limits
from mcp_mailbox.credentials import Scope
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.postoffice import Call, Caller, Handed, PostOffice, Roots
from mcp_mailbox.postoffice.copies import DAY, Copies
from mcp_mailbox.postoffice.handed import LEFT
from mcp_mailbox.store import Accepted, Store
from tests.clocks import SteppedClock
from tests.conftest import DEADLINE

pytestmark = pytest.mark.anyio


class World:
    """A post office whose one caller may give files of a directory."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.project = directory / "project"
        self.project.mkdir()
        self.plan = self.project / "plan.md"
        self.plan.write_text("the plan")
        self.store = store
        limits = Limits(each=1000, together=1500)
        self.office = PostOffice(store, attachments=limits, copies=directory / "opened", handed=directory / "handed")
        given = Roots((str(self.project),), str(self.project), str(directory / "store"))
        self.caller = Caller("alice", "someone", "default", files=given)

    async def send(self, request: str, *attach: str, key: str | None = None, to: str = "alice") -> Accepted:
        return await self.office.send(Call(self.caller, request), Draft((to,), "hello", key=key), attach)

    async def refused(self, request: str, *attach: str, key: str | None = None, to: str = "alice") -> Refusal:
        with pytest.raises(Refusal) as refusal:
            await self.send(request, *attach, key=key, to=to)
        assert refusal.value.hint
        return refusal.value


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    with anyio.fail_after(DEADLINE):
        (tmp_path / "store").mkdir()
        async with open_store(tmp_path / "store" / "mail.db", SteppedClock()) as store:
            one = World(tmp_path, store)
            async with one.office.business():
                await one.office.mailboxes.open(Call(one.caller, "open"), "alice", Profile())
                yield one


async def test_a_request_that_comes_again_is_answered_as_before_whatever_has_become_of_the_file(world: World) -> None:
    first = await world.send("7", "plan.md")
    world.plan.write_text("another plan")
    again = await world.send("7", "plan.md")
    world.plan.unlink()
    assert await world.send("7", "plan.md") == again
    assert (again.id, again.repeated) == (first.id, True)
    assert (await world.refused("8", "plan.md")).code is Code.NO_FILE


async def test_a_key_is_about_what_is_in_the_files(world: World) -> None:
    first = await world.send("7", "plan.md", key="k")
    assert (await world.send("8", "plan.md", key="k")).id == first.id
    assert (await world.refused("9", key="k")).code is Code.KEY_CONFLICT
    world.plan.write_text("another plan")
    assert (await world.refused("10", "plan.md", key="k")).code is Code.KEY_CONFLICT
    assert world.store.attached_bytes == len("the plan")


@pytest.mark.parametrize("sizes", [(1001,), (1000, 501), (1000, 500, 1)])
async def test_what_is_too_large_alone_or_together_is_refused_and_leaves_nothing(
    world: World, sizes: tuple[int, ...]
) -> None:
    for number, size in enumerate(sizes):
        (world.project / f"{number}").write_bytes(bytes([number]) * size)
    said = await world.refused("7", *(f"{number}" for number in range(len(sizes))))
    assert said.code is Code.ATTACHMENT_TOO_LARGE
    assert ("together" in said.problem) == (len(sizes) > 1)
    assert world.store.attached_bytes == 0


async def test_as_much_as_is_allowed_is_taken(world: World) -> None:
    for name, size in (("a", 1000), ("b", 500), ("c", 0)):
        (world.project / name).write_bytes(name.encode() * size)
    sent = await world.send("7", "a", "b", "c")
    found, content, *_ = await world.office.attachments.content(Call(world.caller, "8"), sent.id, "c")
    assert (found.size, content) == (0, b"")
    assert world.store.attached_bytes == 1500


async def test_a_file_without_an_end_is_refused_at_the_limit(world: World) -> None:
    if os.path.exists("/proc/self/maps"):  # noqa: PTH110, ASYNC240 - says that it has no bytes, and has many
        given = Roots(("/proc",), "/proc", "/nowhere")
        world.caller = replace(world.caller, files=given)
        said = await world.refused("7", "/proc/self/maps")
        assert said.code is Code.ATTACHMENT_TOO_LARGE
        assert world.store.attached_bytes == 0


async def test_who_may_not_send_or_read_gives_and_gets_no_files(world: World) -> None:
    sent = await world.send("7", "plan.md")
    reader = replace(world.caller, scopes=frozenset({Scope.READ}))
    sender = replace(world.caller, scopes=frozenset({Scope.SEND}))
    with pytest.raises(Refusal) as refusal:
        await world.office.send(Call(reader, "8"), Draft(("alice",), "x"), ["plan.md"])
    assert refusal.value.code is Code.FORBIDDEN
    with pytest.raises(Refusal) as refusal:
        await world.office.attachments.read(Call(sender, "9"), sent.id, "plan.md")
    assert refusal.value.code is Code.FORBIDDEN


async def test_a_mailbox_that_is_not_there_is_told_as_ever_and_nothing_is_kept(world: World) -> None:
    assert (await world.refused("7", "plan.md", to="alicf")).hint == "Did you mean 'alice'?"
    assert world.store.attached_bytes == 0


async def test_who_is_on_another_machine_gets_no_copy(world: World) -> None:
    (world.project / "a.bin").write_bytes(b"\0")
    sent = await world.send("7", "a.bin", "plan.md")
    here = await world.office.attachments.read(Call(world.caller, "8"), f"{sent.id}.1", "a.bin")
    there = await world.office.attachments.read(Call(replace(world.caller, files=None), "9"), sent.id, "a.bin")
    text = await world.office.attachments.read(Call(world.caller, "8"), sent.id, "plan.md")
    assert here.path is not None
    assert (here.text, here.path.name, there.path) == (None, "a.bin", None)
    assert (text.text, text.path) == ("the plan", None), "it is all told"


def test_a_copy_may_be_changed_or_deleted_and_is_made_anew(tmp_path: Path) -> None:
    copies = Copies(tmp_path / "opened")
    path = copies.put("1abcd", "a.bin", b"content")
    assert path.stat().st_mode & 0o777 == 0o400
    path.chmod(0o600)
    path.write_bytes(b"changed")
    assert copies.put("1abcd", "a.bin", b"content") == path
    assert path.read_bytes() == b"content"
    path.unlink()
    assert copies.put("1abcd", "a.bin", b"content").read_bytes() == b"content"
    assert copies.put("2efgh", "a.bin", b"other") != path
    assert sorted(tmp_path.joinpath("opened").glob("*/.*")) == []


def test_a_copy_goes_away_after_a_day(tmp_path: Path) -> None:
    old = Copies(tmp_path / "opened").put("1abcd", "a.bin", b"content")
    fresh = Copies(tmp_path / "opened").put("2efgh", "a.bin", b"content")
    then = time.time() - DAY - 1
    os.utime(old.parent, (then, then))
    Copies(tmp_path / "opened").put("3ijkl", "a.bin", b"content")
    assert not old.exists()
    assert fresh.exists()


def test_where_no_copy_can_be_made_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "opened").write_text("in the way")
    with pytest.raises(Refusal) as refusal:
        Copies(tmp_path / "opened").put("1abcd", "a.bin", b"content")
    assert refusal.value.hint


# -- handed in by a front


async def test_what_a_front_hands_in_is_a_copy_of_its_own_and_nothing_else(world: World) -> None:
    place = await world.office.attachments.place({"/a/plan.md": 8})
    assert place.stat().st_mode & 0o777 == 0o700
    good, linked, second, fifo = (f"{number:032x}" for number in range(4))
    (place / good).write_text("the plan")
    (place / linked).symlink_to(world.plan)
    os.link(world.plan, place / second)
    os.mkfifo(place / fifo)
    caller = replace(world.caller, files=None)
    sent = await world.office.send(Call(caller, "1"), Draft(("alice",), "x"), [Handed("/a/plan.md", good)])
    found, content, *_ = await world.office.attachments.content(Call(caller, "2"), sent.id, "plan.md")
    assert (found.name, content) == ("plan.md", b"the plan")
    for copy in (linked, second, fifo, "f" * 32, "../project/plan.md", str(world.plan), ""):
        with pytest.raises(Refusal) as refusal:
            await world.office.send(Call(caller, f"3 {copy}"), Draft(("alice",), "x"), [Handed("plan.md", copy)])
        assert refusal.value.code is Code.NO_FILE
    os.utime(place / good, (time.time() - LEFT - 1,) * 2)
    await world.office.attachments.place({"plan.md": 8})
    assert not (place / good).exists(), "somebody died"
    assert (place / linked).is_symlink()


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"plan.md": 1001}, "'plan.md' is too large"),
        ({"a": 800, "b": 800}, "'b' and those before it"),
        ({f"{number}": 1 for number in range(11)}, "11 files"),
    ],
)
async def test_what_is_too_large_to_be_handed_in_is_refused_before_it_is_copied(
    world: World, sizes: dict[str, int], said: str
) -> None:
    with pytest.raises(Refusal, match=said):
        await world.office.attachments.place(sizes)
