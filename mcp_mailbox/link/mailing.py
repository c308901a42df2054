"""`send` at an edge: to the hub now, with files or without, or into the outbox, on disk, for later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.engines.outbox import Parcel
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts import arguments
from mcp_mailbox.fronts.hub.wire import MARK
from mcp_mailbox.fronts.verbs import Asking
from mcp_mailbox.link.asking import Asker
from mcp_mailbox.link.forwarding import Forwarder, named
from mcp_mailbox.link.hub import Away, Unanswered, refused
from mcp_mailbox.link.intake import Intake
from mcp_mailbox.link.mailboxes import Mailboxes
from mcp_mailbox.link.pace import Pace
from mcp_mailbox.link.parcels import Opener, Parcels
from mcp_mailbox.link.signing import Signing
from mcp_mailbox.link.together import Together
from mcp_mailbox.message import Draft
from mcp_mailbox.postoffice import roots
from mcp_mailbox.postoffice.handed import Tray

Json = dict[str, Any]


class Mailing:
    """Sends. Raises Refusal as the hub does, and for what no mailbox could hold."""

    def __init__(
        self,
        asker: Asker,
        together: Together,
        mailboxes: Mailboxes,
        intake: Intake,
        signing: Signing,
        forwarder: Forwarder,
        parcels: Parcels,
        handed: Tray,
        pace: Pace,
    ) -> None:
        self._asker = asker
        self._together = together
        self._mailboxes = mailboxes
        self._intake = intake
        self._signing = signing
        self._forwarder = forwarder
        self._parcels = parcels
        self._handed = handed
        self._pace = pace

    async def place(self, sizes: Mapping[str, int]) -> Path:
        """See `Counter`."""
        self._parcels.check_sizes(sizes)
        return await to_thread.run_sync(self._handed.place)

    async def send(self, asking: Asking) -> Json:
        """Send it to the hub, or keep it for when that is reached: what waits goes first."""
        asked: arguments.Send = asking.asked
        # Refuse here what no mailbox could hold or be: a hub that cannot read one of a batch reads none of it.
        draft = asked.draft
        if asking.call.mailbox is not None:
            addresses.parse(asking.call.mailbox, asking.call.caller.space)
        if asked.attach or asking.handed:
            return await self._with_files(asking, asked, draft)
        tried = False
        if not self._forwarder.waiting:
            try:
                said = self._asker.spelled(asking) | await self._signing.of(asking)
                return await self._intake.taken(asking, await self._together.send(said))
            except Away as away:
                tried = isinstance(away, Unanswered)
        return (await self._later(asking, draft, await self._sender(asking), tried=tried))[0]

    async def _with_files(self, asking: Asking, asked: arguments.Send, draft: Draft) -> Json:
        """Send with files: copies of them stay here until the hub has the message."""
        files = await to_thread.run_sync(self._parcels.take, self._openers(asking, asked))
        given = {name: each for name, each in asking.given.items() if name != "attach"}
        asking = replace(asking, given=given, asked=asked.model_copy(update={"attach": ()}), handed=())
        kept = tried = False
        try:
            if not self._forwarder.waiting:
                try:
                    return await self._intake.taken(asking, await self._hand_over(asking, files))
                except Away as away:
                    tried = isinstance(away, Unanswered)
                except Refusal as refusal:
                    if refusal.code is not Code.STORE_FAILED:  # what was handed in is gone: it goes with the rest
                        raise
            mailbox = await self._sender(asking)
            kept = True  # from here on it may be on disk, even if nobody waits for the answer any more
            answer, kept = await self._later(asking, draft, mailbox, files, tried=tried)
        except Refusal:
            kept = False
            raise
        else:
            return answer
        finally:
            if not kept:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(self._parcels.remove, files)

    def _openers(self, asking: Asking, asked: arguments.Send) -> list[tuple[str, Opener]]:
        """Return what opens each file. Raises Refusal(FORBIDDEN) for paths of another machine."""
        files = asking.call.caller.files
        if asked.attach and files is None:
            hint = "Put the text into the body."
            raise Refusal(Code.FORBIDDEN, "A path would name one of another machine's files.", hint)
        paths: list[tuple[str, Opener]] = [
            (path, partial(roots.open_file, files, path)) for path in asked.attach if files is not None
        ]
        return paths + [(each.name, partial(self._handed.open, each)) for each in asking.handed]

    async def _hand_over(self, asking: Asking, files: Sequence[Parcel]) -> Json:
        """Send with the files to the hub, now. Raises as `Asker.verb`."""
        self._asker.must_stand()
        with self._asker.suspecting():
            for each in files:
                await self._asker.hub.hand_in(each.copy, await to_thread.run_sync(self._parcels.content, each))
        signature = await self._signing.of(asking, files)
        return await self._asker.verb("send", self._asker.spelled(asking) | {"files": named(files)} | signature)

    async def _sender(self, asking: Asking) -> Address:
        return await self._mailboxes.readable(asking.call.caller, asking.call.mailbox)

    async def _later(
        self, asking: Asking, draft: Draft, mailbox: Address, files: Sequence[Parcel] = (), *, tried: bool
    ) -> tuple[Json, bool]:
        """Take a message in for the hub: it is on disk here when this returns. Say whether it needs the files.

        `tried`: the hub may have it already.
        """
        space = asking.call.caller.space
        everybody = [addresses.parse_any(each, space) for each in (*draft.to, *draft.cc)]
        who = self._asker.who(asking.call) | {"address": str(mailbox)}
        # What the hub or the outbox may have, this way or under its key, is not refused: it may have been accepted.
        known = tried or draft.key is not None or await self._forwarder.outbox.knows(who)
        with nullcontext() if known else self._pace.taking(mailbox, {*everybody}):
            entry = await self._forwarder.put(asking, who, files, tried=tried)
        if draft.reply_to is not None:
            self._forwarder.outbox.settled(str(mailbox), [draft.reply_to])
        if entry.answer is not None:
            return _answer(entry.answer), False
        to = [{"address": str(each), "state": "outbox"} for each in dict.fromkeys(everybody)]
        hint = "It is on this machine's disk, and goes out by itself once the hub is reached, also when you are gone."
        answer = {"id": f"{MARK}{entry.number}", "accepted": "outbox", "to": to}
        return answer | self._asker.about_outbox(hint), entry.files == tuple(files)


def _answer(answer: Json) -> Json:
    """Return what the hub has answered to what was taken in before. Raises its Refusal."""
    if "error" in answer:
        raise refused(answer)
    return answer
