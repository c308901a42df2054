"""Who is there, while readers come and go and time passes, over a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import anyio
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import Ending
from mcp_mailbox.directory import Entry, Search
from mcp_mailbox.engines.sqlite import SqliteStore, directory, open_store
from mcp_mailbox.errors import Refusal
from mcp_mailbox.mailbox import Contact, Profile
from mcp_mailbox.postoffice import Call, Caller, PostOffice, attendance
from mcp_mailbox.postoffice.attendance import LINGER, NOTE_EVERY
from mcp_mailbox.presence import Status
from mcp_mailbox.store import Listing, Wanted
from tests.clocks import SteppedClock
from tests.conftest import DEADLINE

pytestmark = pytest.mark.anyio
RELAY = Caller("relay", "someone", "default")
TOKEN = Caller("http.t-1", "someone", "default", binds=False, several=True)
SESSION = Caller("http.s-1", "someone", "default", binds=False)
EVE = Caller("http.t-2", "eve", "default", binds=False, several=True)
_requests = count(1)


class World:
    """A post office, and who looks around in it."""

    def __init__(self, store: SqliteStore, clock: SteppedClock) -> None:
        self.store = store
        self.clock = clock
        self.office = PostOffice(store)

    def call(self, caller: Caller, mailbox: str | None = None) -> Call:
        return Call(caller, f"request {next(_requests)}", mailbox)

    async def open(self, caller: Caller, name: str, profile: Profile | None = None) -> None:
        await self.office.mailboxes.open(self.call(caller), name, profile or Profile())

    async def look(self, caller: Caller, mailbox: str | None = None) -> None:
        await self.office.list_inbox(self.call(caller, mailbox), Listing(1))

    async def wait(self, caller: Caller, patience: float = 0) -> None:
        await self.office.wait(self.call(caller), patience, Wanted(), 1 << 20, Ending())

    async def entry(self, name: str, asker: Caller = EVE) -> Entry:
        found = await self.office.directory.find(self.call(asker), Search("default", name), 10)
        [entry] = [each for each in found.entries if each.address.name == name]
        return entry

    async def presence(self, name: str) -> str:
        return (await self.entry(name)).presence

    async def commits(self) -> int:
        """How often something was written: nothing that is noted waits for company any more."""
        await self.store.writer.do(lambda _: None)
        [changes] = await self.store.writer.do(lambda db: [db.total_changes])
        return int(changes)

    async def noted(self, name: str) -> int:
        rows = await self.store.writer.do(
            lambda db: db.execute(
                "SELECT seen FROM presence JOIN mailbox ON id = mailbox WHERE name = ?", (name,)
            ).fetchall()
        )
        return int(rows[0][0]) if rows else 0


@pytest.fixture
async def world(tmp_path: Path, anyio_backend: str) -> AsyncIterator[World]:  # noqa: ARG001 - makes it async
    clock = SteppedClock()
    with anyio.fail_after(DEADLINE):
        async with open_store(tmp_path / "mail.db", clock) as store:
            yield World(store, clock)


async def test_a_relays_own_mailbox_is_online_for_as_long_as_it_is_connected(world: World) -> None:
    world.office.arrive(RELAY)
    await world.open(RELAY, "ann")
    world.clock.step(100 * LINGER)
    assert await world.presence("ann") == "online"
    await world.office.depart(RELAY)
    assert await world.presence("ann") == "offline", "at once, and not after a minute"


async def test_a_relay_that_comes_back_is_at_the_mailbox_that_it_had(world: World) -> None:
    world.office.arrive(RELAY)
    await world.open(RELAY, "ann")
    await world.office.depart(RELAY)
    world.clock.step(LINGER)
    world.office.arrive(RELAY)
    assert await world.presence("ann") == "offline"
    await world.office.mailboxes.greet(RELAY)
    assert await world.presence("ann") == "online"


async def test_a_connection_that_overlaps_the_one_before_keeps_it_online(world: World) -> None:
    for _ in range(2):
        world.office.arrive(RELAY)
        await world.open(RELAY, "ann")
    await world.office.depart(RELAY)
    assert await world.presence("ann") == "online"
    await world.office.depart(RELAY)
    assert await world.presence("ann") == "offline"


async def test_who_has_no_mailbox_yet_is_greeted_all_the_same(world: World) -> None:
    world.office.arrive(RELAY)
    await world.office.mailboxes.greet(RELAY)
    assert (await world.office.directory.find(world.call(RELAY), Search("default"), 10)).entries == []


async def test_a_reader_that_opens_another_mailbox_is_there_and_a_minute_later_no_more_at_the_first(
    world: World,
) -> None:
    world.office.arrive(RELAY)
    await world.open(RELAY, "ann")
    await world.open(RELAY, "bob")
    world.clock.step(LINGER)
    assert [await world.presence(name) for name in ("ann", "bob")] == ["offline", "online"]


async def test_a_mailbox_that_a_relay_names_is_online_for_a_minute_unless_the_relay_goes(world: World) -> None:
    world.office.arrive(RELAY)
    for name in ("second", "ann"):
        await world.open(RELAY, name)
    world.clock.step(LINGER)
    await world.look(RELAY, "second")
    assert await world.presence("second") == "online"
    world.clock.step(LINGER - 1)
    assert await world.presence("second") == "online"
    world.clock.step(1)
    assert await world.presence("second") == "offline"
    await world.look(RELAY, "second")
    await world.office.depart(RELAY)
    assert await world.presence("second") == "offline"


async def test_two_readers_of_a_mailbox_are_there_until_both_have_gone(world: World) -> None:
    others = [replace(RELAY, reader=f"relay {number}") for number in range(3)]
    for each in others:
        world.office.arrive(each)
        await world.open(each, "ann")
        world.clock.step(2 * LINGER)
    for each in others:
        assert await world.presence("ann") == "online"
        await world.office.depart(each)
    assert await world.presence("ann") == "offline"


async def test_one_request_over_http_counts_for_a_minute(world: World) -> None:
    caller = replace(TOKEN, mailbox="ann")
    world.office.arrive(caller)
    await world.open(caller, "ann")
    await world.office.depart(caller, put_back=False)
    world.clock.step(LINGER - 1)
    assert await world.presence("ann") == "online"
    world.clock.step(1)
    assert await world.presence("ann") == "offline"


async def test_looking_for_others_counts_as_well(world: World) -> None:
    caller = replace(TOKEN, mailbox="ann")
    await world.open(caller, "ann")
    world.clock.step(LINGER)
    assert (await world.entry("ann", caller)).presence == "online"


async def test_a_request_of_a_shared_token_tells_nothing_of_the_tokens_other_mailboxes(world: World) -> None:
    for name in ("ann", "bob"):
        await world.open(replace(TOKEN, mailbox=name), name)
    world.clock.step(LINGER)
    waiting = world.call(replace(TOKEN, mailbox="ann"))
    async with anyio.create_task_group() as tasks:
        world.office.arrive(waiting.caller)
        tasks.start_soon(world.office.wait, waiting, 100 * LINGER, Wanted(), 1000, Ending())
        await anyio.wait_all_tasks_blocked()
        while await world.presence("ann") == "offline":  # noqa: ASYNC110 - the wait begins in a thread of the store's
            await anyio.sleep(0.001)
        world.clock.step(2 * LINGER)
        assert [await world.presence(name) for name in ("ann", "bob")] == ["online", "offline"]
        tasks.cancel_scope.cancel()
    world.clock.step(LINGER)
    assert await world.presence("ann") == "offline"


async def test_a_session_is_there_while_its_stream_stands_and_a_minute_longer_unless_it_ends(world: World) -> None:
    world.office.arrive(SESSION)
    await world.open(SESSION, "ann")
    world.clock.step(3 * LINGER)
    assert await world.presence("ann") == "online"
    await world.office.depart(SESSION, put_back=False)
    world.clock.step(LINGER - 1)
    assert await world.presence("ann") == "online"
    world.clock.step(1)
    assert await world.presence("ann") == "offline"
    world.office.arrive(SESSION)
    assert await world.presence("ann") == "online"
    await world.office.depart(SESSION, put_back=False)
    world.office.attendance.ended(SESSION)
    assert await world.presence("ann") == "offline"


async def test_who_says_that_it_is_away_is_away_while_it_is_there(world: World) -> None:
    world.office.arrive(RELAY)
    await world.open(RELAY, "ann", Profile(status=Status("lunch", away=True, term=1000)))
    entry = await world.entry("ann")
    assert (entry.presence, entry.status) == ("away", "lunch")
    world.clock.step(1000)
    entry = await world.entry("ann")
    assert (entry.presence, entry.status) == ("online", "")
    await world.open(RELAY, "ann", Profile(status=Status("back on Monday", away=True)))
    await world.office.depart(RELAY)
    entry = await world.entry("ann")
    assert (entry.presence, entry.status) == ("offline", "back on Monday")


async def test_when_somebody_was_last_there_is_now_or_when_they_went(world: World) -> None:
    look = replace(EVE, principal="someone", mailbox="watcher")
    world.office.arrive(RELAY)
    await world.open(RELAY, "ann")
    world.clock.step(500 * LINGER)
    assert (await world.entry("ann", look)).seen_at == world.clock.now()
    await world.office.depart(RELAY)
    gone = world.clock.now()
    world.clock.step(77)
    assert (await world.entry("ann", look)).seen_at == gone
    assert await world.noted("ann") == gone, "and it is on disk"
    world.office = PostOffice(world.store)
    entry = await world.entry("ann", look)
    assert (entry.presence, entry.seen_at) == ("offline", gone)


async def test_of_somebody_else_only_the_presence_is_told(world: World) -> None:
    world.office.arrive(RELAY)
    await world.open(RELAY, "ann", Profile("about", ("skill",), Contact.OPEN))
    entry = await world.entry("ann", EVE)
    assert (entry.presence, entry.owner, entry.seen_at, entry.unread) == ("online", "", None, None)


async def test_a_mailbox_is_noted_once_a_minute_however_many_requests_come(world: World) -> None:
    caller = replace(TOKEN, mailbox="ann")
    await world.open(caller, "ann")
    first = await world.noted("ann")
    assert first == world.clock.now()
    before = await world.commits()
    for _ in range(50):
        world.office.arrive(caller)
        await world.look(caller)
        await world.office.depart(caller, put_back=False)
        world.clock.step((NOTE_EVERY - 1) // 50)
    assert await world.commits() == before
    assert await world.noted("ann") == first
    world.clock.step(NOTE_EVERY)
    await world.look(caller)
    assert await world.noted("ann") == world.clock.now()


async def test_what_is_remembered_does_not_grow_with_those_who_have_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendance, "_PLACES", 4)
    world.office = PostOffice(world.store)
    world.office.arrive(RELAY)
    await world.open(RELAY, "ann")
    for number in range(20):
        world.clock.step(LINGER)
        await world.open(TOKEN, f"box{number}")
        relay = replace(RELAY, reader=f"relay {number}")
        world.office.arrive(relay)
        await world.open(relay, "ann")
        await world.office.depart(relay)
    assert len(world.office.attendance._places) <= 5
    assert len(world.office.attendance._own) == 1
    assert sum(len(place.visits) for place in world.office.attendance._places.values()) < 10
    assert await world.presence("ann") == "online"
    assert world.office.attendance.seen(Address("box0", "default")) == (False, None)


async def test_a_page_is_never_empty_while_there_is_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_RARE", 0)
    monkeypatch.setattr(directory, "_WALKED", 2)
    for number in range(9):
        await world.open(TOKEN, f"n{number}", Profile("this one" if number in {4, 7} else "another"))
    found = await world.office.directory.find(world.call(TOKEN), Search("default", "this"), 1)
    assert [each.address.name for each in found.entries] == ["n4"]
    found = await world.office.directory.find(world.call(TOKEN), Search("default", "this"), 1, found.next)
    assert [each.address.name for each in found.entries] == ["n7"]
    found = await world.office.directory.find(world.call(TOKEN), Search("default", "this"), 1, found.next)
    assert (found.entries, found.next) == ([], None)


OLD, NEW = (Caller(f"thread-{name}", "someone", "default") for name in ("old", "new"))


@asynccontextmanager
async def _in_business(world: World) -> AsyncIterator[None]:
    """Be past the moment after a start in which nobody knows who is here."""
    async with world.office.business():
        await anyio.wait_all_tasks_blocked()
        world.clock.step(LINGER)
        await world.office._readers.known()
        yield


async def _two_threads(world: World, *, resumed: bool = False, same: bool = True) -> None:
    """One host has left a conversation for another one, and started a server for it; both have its mailbox."""
    for caller in (OLD, NEW):
        world.office.arrive(caller)
        await world.open(caller, "ann")
        world.office.attendance.begins(caller, "host" if same else caller.reader, resumed=resumed)
        if caller is OLD:
            await world.wait(OLD)


async def test_a_conversation_that_was_left_does_not_keep_the_next_one_from_their_mailbox(world: World) -> None:
    async with _in_business(world):
        await _two_threads(world)
        await world.wait(NEW)
        # It was newer, not better: who is driven out is told so, and stays out.
        with pytest.raises(Refusal, match="reads ann@default"):
            await world.wait(OLD)


@pytest.mark.parametrize(("resumed", "same"), [(False, False), (True, True)])
async def test_a_conversation_that_may_be_alive_keeps_its_mailbox(world: World, *, resumed: bool, same: bool) -> None:
    """Another host's, and one of which a post office that has just started cannot know that it is the older."""
    async with _in_business(world):
        await _two_threads(world, resumed=resumed, same=same)
        with pytest.raises(Refusal, match="reads ann@default"):
            await world.wait(NEW)


async def test_a_conversation_from_which_something_came_keeps_its_mailbox(world: World) -> None:
    async with _in_business(world):
        await _two_threads(world)
        await world.look(OLD)
        with pytest.raises(Refusal, match="reads ann@default"):
            await world.wait(NEW)


async def test_a_conversation_that_waits_keeps_its_mailbox(world: World) -> None:
    async with _in_business(world), anyio.create_task_group() as tasks:
        world.office.arrive(OLD)
        await world.open(OLD, "ann")
        world.office.attendance.begins(OLD, "host", resumed=False)
        tasks.start_soon(world.wait, OLD, LINGER)
        await anyio.wait_all_tasks_blocked()
        world.office.arrive(NEW)
        await world.open(NEW, "ann")
        world.office.attendance.begins(NEW, "host", resumed=False)
        with pytest.raises(Refusal, match="reads ann@default"):
            await world.wait(NEW)
        tasks.cancel_scope.cancel()
