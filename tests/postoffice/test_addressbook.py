"""Which mailbox a call acts for, over a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.credentials import ALL_SCOPES, Scope
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.postoffice import Call, Caller, PostOffice
from mcp_mailbox.postoffice.addressbook import AddressBook

pytestmark = pytest.mark.anyio

AGENT = Caller("relay", "someone", "default")
TOKEN = Caller("http.t-1", "someone", "default", binds=False)
_requests = count(1)


def call(caller: Caller) -> Call:
    return Call(caller, f"request {next(_requests)}")


@pytest.fixture
async def book(tmp_path: Path, anyio_backend: str) -> AsyncIterator[AddressBook]:  # noqa: ARG001 - makes it async
    async with open_store(tmp_path / "mail.db", SystemClock()) as store:
        yield PostOffice(store).mailboxes


async def test_a_mailbox_once_made_stays_ones_own_when_its_name_was_forgotten(book: AddressBook) -> None:
    for caller in (AGENT, replace(TOKEN, mailbox="mine")):
        first = await book.open(call(caller), caller.mailbox, Profile())
        again = await book.open(call(caller), None, Profile(about="the same"))
        assert (again.mailbox.address, again.created) == (first.mailbox.address, False)


async def test_who_has_none_is_given_a_name_and_keeps_it_where_it_binds(book: AddressBook) -> None:
    given = [(await book.open(call(AGENT), None, Profile())).mailbox.address for _ in range(2)]
    assert given[0] == given[1]
    assert len({(await book.open(call(TOKEN), None, Profile())).mailbox.address for _ in range(2)}) == 2


async def test_what_is_there_is_ensured_for_who_may_not_make_it(book: AddressBook) -> None:
    reads = replace(TOKEN, scopes=frozenset({Scope.READ}))
    with pytest.raises(Refusal) as refused:
        await book.ensure(call(reads), "mine")
    assert refused.value.code is Code.FORBIDDEN
    await book.ensure(call(replace(TOKEN, scopes=ALL_SCOPES)), "mine")
    await book.ensure(call(reads), "mine")


async def test_what_is_ensured_becomes_the_readers_own_where_it_binds(book: AddressBook) -> None:
    await book.ensure(call(TOKEN), "mine")
    await book.ensure(call(AGENT), "mine")
    assert str(await book.own(AGENT)) == "mine@default"


async def test_what_is_somebody_elses_cannot_be_ensured(book: AddressBook) -> None:
    await book.ensure(call(replace(TOKEN, principal="eve")), "hers")
    for caller in (AGENT, TOKEN):
        with pytest.raises(Refusal) as refused:
            await book.ensure(call(caller), "hers")
        assert refused.value.code is Code.NAME_TAKEN
