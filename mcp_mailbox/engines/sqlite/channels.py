"""Channels made, joined, left and listed. Publishing is in `sending`, reading wherever mail is read (`fanout`)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

import anyio.to_thread

from mcp_mailbox import addresses
from mcp_mailbox.addresses import CHANNEL_MARK, Address
from mcp_mailbox.channel import (
    CHANNEL_LIMIT,
    SUBSCRIPTION_LIMIT,
    Channel,
    Keep,
    Skipped,
)
from mcp_mailbox.engines.sqlite import fanout
from mcp_mailbox.engines.sqlite.codec import unknown_message
from mcp_mailbox.engines.sqlite.common import Common, request_key
from mcp_mailbox.engines.sqlite.rows import Box, arriving, find_mailbox, known_mailbox, unknown_channel
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.store import ChannelPage, Origin, Subscribed
from mcp_mailbox.view import apply, query

_NAMES_READ = 1_000


async def look(channel: Address) -> fanout.Look:
    """Return what its name looks like."""
    name = channel.name.removeprefix(CHANNEL_MARK)
    return await anyio.to_thread.run_sync(fanout.look, name)


class Channels:
    """The verbs about channels."""

    def __init__(self, common: Common) -> None:
        self._codec = common.codec
        self._now = common.now
        self._registry = common.registry
        self._skips = common.skips

    # -- in the writer's thread

    def subscribe(
        self,
        db: sqlite3.Connection,
        mailbox: Address,
        channel: Address,
        since: int | str | None,
        keep: Keep,
        origin: Origin,
        seen: fanout.Look | None,
    ) -> Subscribed:
        """Make the mailbox a member, and the channel if it was looked at what its name looks like."""
        box = self._registry.box(db, mailbox)
        key = f"subscribe {request_key(origin)}"
        known = db.execute(query.KNOWN, (box.id, key)).fetchone()
        if known is not None:
            number, created, waiting = json.loads(known["answer"])
            return Subscribed(self._shown(db, number, box), bool(created), waiting)
        found = self._reachable(db, box, channel)
        now = self._now()
        place = self._place(db, found, since) if found is not None else 0
        membership = db.execute(query.SUBSCRIBED, (box.id, found["id"])).fetchone() if found is not None else None
        if found is not None and keep and found["owner"] != box.owner:
            raise Refusal(
                Code.FORBIDDEN,
                f"What {channel.name} keeps is not yours to say.",
                "Leave `keep` out; who made the channel can change it.",
            )
        if membership is None:
            _check_room(db, box)
        number = found["id"] if found is not None else _made(db, box, channel, keep, seen, now)
        if found is not None:
            apply.keep(db, number, age=keep.age, count=keep.count, bytes=keep.bytes)
        begin = max(place, fanout.floor(db, found, now)) if found is not None else 0
        before = membership if membership is not None and not membership["known"] else None
        if before is None or begin < before["place"]:  # who joins on purpose hears everybody from then on
            since_then = begin if before is None else min(begin, before["since"])
            apply.join(db, box.id, number, since_then)
            apply.advance(db, box.id, number, since_then, begin)
        if membership is None:
            apply.count_members(db, number, 1)
        waiting = arriving(db, box.id, now) if since is not None else 0
        answer = [number, int(found is None), waiting]
        apply.remember(db, box.id, key, b"", json.dumps(answer), now)
        return Subscribed(self._shown(db, number, box), found is None, waiting)

    def unsubscribe(self, db: sqlite3.Connection, mailbox: Address, channel: Address, origin: Origin) -> bool:
        """End the membership."""
        box = self._registry.box(db, mailbox)
        key = f"unsubscribe {request_key(origin)}"
        known = db.execute(query.KNOWN, (box.id, key)).fetchone()
        if known is not None:
            return bool(json.loads(known["answer"]))
        found = self._reachable(db, box, channel)
        if found is None:
            raise unknown_channel(str(channel))
        was = fanout.leave(db, box.id, found)
        apply.remember(db, box.id, key, b"", json.dumps(was), self._now())
        return was

    def note_told(self, db: sqlite3.Connection, mailbox: Address, skipped: Sequence[Skipped]) -> None:
        """Note that somebody was told what was skipped."""
        box = self._registry.box(db, mailbox)
        for each in skipped:
            found = fanout.find(db, each.channel)
            if found is not None:
                apply.skip(db, box.id, found["id"], -each.count)
        if not db.execute(query.SKIPPED, (box.id,)).fetchall():
            self._skips.discard((box.address.folded, box.address.space))

    def _reachable(self, db: sqlite3.Connection, box: Box, channel: Address) -> sqlite3.Row | None:
        """Return the channel, None when there is none. Raises Refusal(UNKNOWN_CHANNEL) for a foreign space."""
        if not fanout.in_reach(db, box.owner, channel.space):
            raise unknown_channel(str(channel))
        return fanout.find(db, channel)

    def _place(self, db: sqlite3.Connection, found: sqlite3.Row, since: int | str | None) -> int:
        """Return behind which place to begin. Raises Refusal(UNKNOWN_MESSAGE)."""
        last = int(found["last"])
        if since is None:
            return last
        if isinstance(since, int):
            row = db.execute(query.PLACE_SINCE, (found["id"], max(0, min(since, (1 << 62) - 1)))).fetchone()
            return row["place"] - 1 if row is not None else last
        seq = self._codec.read(since).seq
        row = db.execute(query.PLACE_OF, (found["id"], seq)).fetchone()
        if row is None:
            raise unknown_message(since)
        return int(row["place"]) - 1

    def _shown(self, db: sqlite3.Connection, number: int, box: Box) -> Channel:
        row = db.execute(query.CHANNEL_BY_ID, (number,)).fetchone()
        yours = db.execute(query.SUBSCRIBED, (box.id, number)).fetchone() is not None
        return _channel(row, yours=yours)

    # -- in the reader's thread

    def listed(
        self, db: sqlite3.Connection, mailbox: Address, space: str, limit: int, cursor: str | None
    ) -> ChannelPage:
        """Return a page."""
        box = find_mailbox(db, mailbox)
        if box is None or not fanout.in_reach(db, box.owner, space):
            return ChannelPage(())
        of = f"channels {space}"
        after = ""
        if cursor is not None:
            [number] = self._codec.read_cursor(of, cursor)
            after = addresses.fold(db.execute(query.CHANNEL_BY_ID, (number,)).fetchone()["name"])
        rows = db.execute(query.CHANNELS, (box.id, space, after, limit + 1)).fetchall()
        shown = tuple(
            (_channel(row, yours=bool(row["yours"])), self._codec.cursor(of, row["id"])) for row in rows[:limit]
        )
        return ChannelPage(shown, shown[-1][1] if len(rows) > limit else None)

    def subscriptions(self, db: sqlite3.Connection, mailbox: Address) -> Sequence[Address]:
        """Return where the mailbox is a member."""
        rows = db.execute(query.SUBSCRIPTIONS, (known_mailbox(db, mailbox),)).fetchall()
        return [fanout.address(row) for row in rows]

    def skipped(self, db: sqlite3.Connection, mailbox: Address) -> Sequence[Skipped]:
        """Return what nobody was told yet."""
        rows = db.execute(query.SKIPPED, (known_mailbox(db, mailbox),)).fetchall()
        return [Skipped(fanout.address(row), row["count"]) for row in rows]

    def similar(self, db: sqlite3.Connection, mailbox: Address, channel: Address) -> Address | None:
        """Return the channel most like this one that is there for the mailbox."""
        import difflib  # noqa: PLC0415 - only a mistake pays for it

        box = find_mailbox(db, mailbox)
        if box is None or not fanout.in_reach(db, box.owner, channel.space):
            return None
        rows = db.execute(query.CHANNEL_NAMES, (channel.space, _NAMES_READ)).fetchall()
        names = {row["folded"]: row["name"] for row in rows}
        close = difflib.get_close_matches(channel.folded.removeprefix(CHANNEL_MARK), names, n=1)
        return Address(CHANNEL_MARK + names[close[0]], channel.space) if close else None


def _channel(row: sqlite3.Row, *, yours: bool) -> Channel:
    keep = Keep(row["keep_age"], row["keep_count"], row["keep_bytes"])
    return Channel(
        fanout.address(row), row["owner"], row["created"], row["members"], keep, row["published"] or None, yours
    )


def _check_room(db: sqlite3.Connection, box: Box) -> None:
    if len(db.execute(query.SUBSCRIPTIONS, (box.id,)).fetchall()) >= SUBSCRIPTION_LIMIT:
        problem = f"{box.address} is a member of {SUBSCRIPTION_LIMIT} channels."
        raise Refusal(Code.BAD_ARGUMENT, problem, "Leave some: subscribe(channel=…, leave=true).")


def _made(db: sqlite3.Connection, box: Box, channel: Address, keep: Keep, seen: fanout.Look | None, now: int) -> int:
    """Make the channel; return its number. Refuses before it writes."""
    if seen is None:
        raise unknown_channel(str(channel))
    name = channel.name.removeprefix(CHANNEL_MARK)
    (many,) = db.execute(query.CHANNELS_COUNTED, (channel.space, box.owner, CHANNEL_LIMIT)).fetchone()
    if many >= CHANNEL_LIMIT:
        problem = f"Your principal has made {CHANNEL_LIMIT} channels in {channel.space}."
        raise Refusal(Code.BAD_ARGUMENT, problem, "Use one of them: subscribe() lists them.")
    alike = _lookalike(db, channel.space, name, seen)
    if alike is not None:
        raise Refusal(
            Code.NAME_CONFUSABLE,
            f"{channel.name!a} looks like the existing channel '{CHANNEL_MARK}{alike}'.",
            "Join that one, or choose a name that nobody can mistake for it.",
        )
    return fanout.create(db, channel, box.owner, keep, seen, now)


def _lookalike(db: sqlite3.Connection, space: str, name: str, seen: fanout.Look) -> str | None:
    """Return the channel that looks like it."""
    row = db.execute(
        query.CHANNEL_LOOKALIKE, (space, seen.looks, seen.capitals, name.isascii(), seen.written)
    ).fetchone()
    if row is not None:
        return str(row["name"])
    capital = (row["name"] for row in db.execute(query.CHANNELS_WITH_CAPITALS, (space, _NAMES_READ)))
    return next((other for other in capital if addresses.written_skeleton(other) in {seen.looks, seen.written}), None)
