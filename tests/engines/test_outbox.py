"""The file of an edge: what cannot be used is refused, and left as it was."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mcp_mailbox.engines.outbox import open_outbox
from mcp_mailbox.errors import Code, Refusal

pytestmark = pytest.mark.anyio


async def refused(path: Path) -> Code:
    with pytest.raises(Refusal) as refusal:
        async with open_outbox(path):
            pass
    return refusal.value.code


async def test_what_was_put_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"
    async with open_outbox(path) as outbox:
        entry = await outbox.put("send", {"reader": "r", "request": "1"}, {"to": "bob"}, 5)
    async with open_outbox(path) as outbox:
        assert (outbox.waiting, await outbox.next(9)) == (1, [entry])


async def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "edge.db").mkdir()
    assert await refused(tmp_path / "edge.db") is Code.STORE_FAILED


@pytest.mark.parametrize(
    ("pragma", "code"),
    [("user_version = 999", Code.STORE_NEWER), ("application_id = 7", Code.STORE_DAMAGED)],
    ids=["of a newer program", "of another program"],
)
async def test_a_file_that_is_not_ours_is_refused(tmp_path: Path, pragma: str, code: Code) -> None:
    async with open_outbox(tmp_path / "edge.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "edge.db")) as db:
        db.execute(f"PRAGMA {pragma}")
    assert await refused(tmp_path / "edge.db") is code
