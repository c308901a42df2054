"""Reservations: who holds what, until when, and who is told."""

from __future__ import annotations

import anyio
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.reservation import DEFAULT_TERM, HELD_LIMIT, SPACE_LIMIT, Conflict, Mode, Reservation, Terms
from mcp_mailbox.store import Released, Reserved, Submission
from tests.contract.post import SPACE, Post, at
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio
SHARED = Mode.SHARED


async def reserve(
    post: Post,
    holder: str,
    *names: str,
    mode: Mode = Mode.EXCLUSIVE,
    term: int = DEFAULT_TERM,
    note: str = "",
    request: str | None = None,
) -> Reserved:
    return await post.store.reserve(at(holder), names, Terms(mode, term, note), post.origin(holder, request))


async def release(post: Post, holder: str, *names: str, request: str | None = None) -> Released:
    return await post.store.release_reservations(at(holder), names or None, post.origin(holder, request))


async def held(post: Post, space: str = SPACE) -> dict[str, list[str]]:
    """Return who holds what."""
    found: dict[str, list[str]] = {}
    for each in await post.store.reservations(space):
        found.setdefault(each.holder.name if each.holder else "", []).append(each.name)
    return found


def names(reserved: Reserved) -> list[str]:
    assert reserved.conflicts == ()
    return [each.name for each in reserved.held]


def met(reserved: Reserved) -> list[tuple[str, str]]:
    """Return which names met which."""
    assert reserved.held == ()
    return [(each.name, each.held.name) for each in reserved.conflicts]


@promise("reserve-durable", "durable")
async def test_what_is_reserved_is_held_after_a_crash_until_its_time_has_come(post: Post) -> None:
    await post.open("ann", owner="annes")
    now = post.clock.now()
    reserved = await reserve(post, "ann", "src/api", "release-lock", mode=SHARED, term=1000, note="refactoring")
    assert reserved.held == (
        Reservation("src/api", at("ann"), "annes", SHARED, "refactoring", now, now + 1000),
        Reservation("release-lock", at("ann"), "annes", SHARED, "refactoring", now, now + 1000),
    )
    await post.engine.crash()
    assert sorted(await post.store.reservations(SPACE), key=str) == sorted(reserved.held, key=str)
    post.clock.step(999)
    assert await held(post) == {"ann": ["release-lock", "src/api"]}
    post.clock.step(1)
    assert await held(post) == {}


@promise("reserve-one", "reserve-told")
async def test_a_name_that_meets_what_another_holds_is_not_had_and_who_asks_is_told_all(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await reserve(post, "ann", "src/**/*.py", "docs", term=5000, note="moving")
    theirs = {each.name: each for each in await post.store.reservations(SPACE)}
    refused = await reserve(post, "bob", "README.md", "src/api", "docs/index.md")
    assert refused == Reserved(
        (), (Conflict("src/api", theirs["src/**/*.py"]), Conflict("docs/index.md", theirs["docs"]))
    )
    assert await held(post) == {"ann": ["docs", "src/**/*.py"]}, "all or nothing"
    assert names(await reserve(post, "bob", "README.md", "src2")) == ["README.md", "src2"]


@promise("reserve-one")
@pytest.mark.parametrize("first", list(Mode))
@pytest.mark.parametrize("second", list(Mode))
async def test_only_what_all_hold_as_shared_is_shared(post: Post, first: Mode, second: Mode) -> None:
    await post.mailboxes("ann", "bob")
    await reserve(post, "ann", "src", mode=first)
    answer = await reserve(post, "bob", "src/a.py", mode=second)
    assert bool(answer.held) == (first is second is SHARED)
    assert await held(post) == {"ann": ["src"], **({"bob": ["src/a.py"]} if answer.held else {})}


@promise("reserve-one")
async def test_who_shares_cannot_have_it_alone_before_the_others_let_go(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    for name in ("ann", "bob"):
        await reserve(post, name, "src", mode=SHARED)
    assert met(await reserve(post, "ann", "src")) == [("src", "src")]
    await release(post, "bob", "src")
    assert names(await reserve(post, "ann", "src")) == ["src"]
    assert met(await reserve(post, "bob", "src", mode=SHARED)) == [("src", "src")]


@promise("reserve-one")
async def test_of_many_who_ask_at_once_one_has_it(post: Post) -> None:
    boxes = [f"box{number}" for number in range(20)]
    await post.mailboxes(*boxes)
    had: list[str] = []

    async def ask(box: str) -> None:
        if (await reserve(post, box, f"{box}.md", "src/")).held:
            had.append(box)

    async with anyio.create_task_group() as tasks:
        for box in boxes:
            tasks.start_soon(ask, box)
    [winner] = had
    assert await held(post) == {winner: [f"{winner}.md", "src/"]}


@promise("reserve-own")
async def test_one_is_never_in_ones_own_way_by_any_case_of_the_address(post: Post) -> None:
    await post.mailboxes("Ann")
    await reserve(post, "Ann", "src")
    assert names(await reserve(post, "ANN", "src/a.py", "**")) == ["src/a.py", "**"]
    assert await held(post) == {"Ann": ["**", "src", "src/a.py"]}


@promise("reserve-own")
async def test_reserving_again_extends_and_never_shortens(post: Post) -> None:
    await post.mailboxes("ann")
    [first] = (await reserve(post, "ann", "src", term=5000, note="first")).held
    post.clock.step(1000)
    [shorter] = (await reserve(post, "ann", "src", term=1000, mode=SHARED)).held
    assert (shorter.until, shorter.made_at) == (first.until, first.made_at)
    assert (shorter.mode, shorter.note) == (SHARED, "first")
    [longer] = (await reserve(post, "ann", "src", term=5000, note="second")).held
    assert (longer.until, longer.made_at) == (first.until + 1000, first.made_at)
    assert (longer.mode, longer.note) == (Mode.EXCLUSIVE, "second")
    assert await post.store.reservations(SPACE) == [longer]


@promise("reserve-lapses")
async def test_what_has_ended_is_in_nobodys_way_and_begins_anew(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await reserve(post, "ann", "src", term=1000, note="old")
    post.clock.step(999)
    assert met(await reserve(post, "bob", "src")) == [("src", "src")]
    post.clock.step(1)
    assert names(await reserve(post, "bob", "src", term=1000)) == ["src"]
    post.clock.step(1000)
    [again] = (await reserve(post, "ann", "src")).held
    assert (again.note, again.made_at) == ("", post.store.clock.now())
    assert (await release(post, "bob")).names == ()


@promise("reserve-release")
async def test_a_mailbox_releases_its_own_names_and_nobody_elses(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await reserve(post, "ann", "src", "docs/", "tests")
    await reserve(post, "bob", "notes")
    answer = await release(post, "ann", "notes", "docs", "src/a.py", "tests/")
    assert answer == Released(("docs/", "tests"), ("notes", "src/a.py"))
    assert await held(post) == {"ann": ["src"], "bob": ["notes"]}
    assert await release(post, "ann") == Released(("src",))
    assert await release(post, "ann") == Released(())
    await post.engine.crash()
    assert await held(post) == {"bob": ["notes"]}
    assert names(await reserve(post, "bob", "src"))


@promise("reserve-repeats")
async def test_a_repeated_request_gets_the_same_answer_and_does_nothing_again(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    reserved = await reserve(post, "ann", "src", "docs", note="x", request="1")
    released = await release(post, "ann", "src", "tests", request="2")
    post.clock.step(10)
    await post.engine.crash()
    assert await release(post, "ann", "src", "tests", request="2") == released == Released(("src",), ("tests",))
    assert await reserve(post, "ann", "src", "docs", note="x", request="1") == reserved
    assert await held(post) == {"ann": ["docs"]}, "what was released since is not taken again"
    await reserve(post, "ann", "src")
    assert await release(post, "ann", "src", "tests", request="2") == released
    assert await held(post) == {"ann": ["docs", "src"]}, "what was reserved since is not released again"
    await post.open("bob", reader="ann")
    assert met(await reserve(post, "bob", "src", request="1")), "another mailbox's request is another one"


@promise("reserve-repeats")
async def test_a_request_that_met_a_conflict_is_asked_anew(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await reserve(post, "ann", "src")
    assert met(await reserve(post, "bob", "src", request="1"))
    await release(post, "ann")
    assert names(await reserve(post, "bob", "src", request="1")) == ["src"]


@promise("reserve-repeats")
async def test_a_reservation_and_a_message_of_one_request_are_two_things(post: Post) -> None:
    await post.mailboxes("ann")
    await post.send("ann", "ann", request="1")
    assert names(await reserve(post, "ann", "src", request="1")) == ["src"]
    assert (await release(post, "ann", request="1")).names == ("src",)


@promise("reserve-space")
async def test_reservations_of_two_spaces_never_meet(post: Post) -> None:
    elsewhere = Address("ann", "elsewhere")
    await post.mailboxes("ann", "bob")
    await post.store.open(elsewhere, "someone", Profile(), post.origin("x"))
    await reserve(post, "ann", "src")
    assert (await post.store.reserve(elsewhere, ["src"], Terms(), post.origin("x"))).held
    assert [each.holder for each in await post.store.reservations("elsewhere")] == [elsewhere]
    assert await held(post) == {"ann": ["src"]}
    assert await post.store.reservations("nowhere") == []


@promise("reserve-one")
async def test_mailboxes_of_other_principals_are_in_the_way_too(post: Post) -> None:
    await post.mailboxes("ann")
    await post.open("eve", owner="eve")
    await reserve(post, "eve", "src")
    assert met(await reserve(post, "ann", "src/a.py")) == [("src/a.py", "src")]


@promise("reserve-bounded")
async def test_a_mailbox_and_a_space_hold_so_much_and_no_more(post: Post) -> None:
    boxes = [f"box{number}" for number in range(SPACE_LIMIT // HELD_LIMIT)]
    await post.mailboxes(*boxes, "late")
    for box in boxes:
        await reserve(post, box, *(f"{box}/{number}" for number in range(HELD_LIMIT)))
    assert len(await reserve_again(post, boxes[0])) == HELD_LIMIT
    for holder in (boxes[0], "late"):
        with pytest.raises(Refusal) as refusal:
            await reserve(post, holder, "one more")
        assert refusal.value.code is Code.BAD_ARGUMENT
        assert refusal.value.hint
    await release(post, boxes[0], f"{boxes[0]}/7")
    assert names(await reserve(post, "late", "one more")) == ["one more"]


async def reserve_again(post: Post, box: str) -> list[str]:
    return names(await reserve(post, box, *(f"{box}/{number}" for number in range(HELD_LIMIT))))


@promise("reserve-bounded")
async def test_what_has_ended_counts_for_nothing(post: Post) -> None:
    await post.mailboxes("ann")
    for _ in range(3):
        await reserve(post, "ann", *(f"{number}" for number in range(HELD_LIMIT)), term=1)
        post.clock.step(1)
    assert await held(post) == {}
    assert len(names(await reserve(post, "ann", *(f"new {number}" for number in range(HELD_LIMIT))))) == HELD_LIMIT


@promise("sender-exists")
async def test_only_a_mailbox_that_exists_can_hold_anything(post: Post) -> None:
    for verb in (reserve(post, "nobody", "src"), release(post, "nobody", "src")):
        with pytest.raises(Refusal) as refusal:
            await verb
        assert refusal.value.code is Code.UNKNOWN_MAILBOX


@promise("reserve-own")
async def test_a_reservation_keeps_no_mail_from_anybody(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await reserve(post, "ann", "**")
    await post.store.accept(
        Submission(at("bob"), [at("ann")], Draft(("ann",), "when will you be done?"), post.origin("bob"))
    )
    assert await post.listed("ann") == ["when will you be done?"]
