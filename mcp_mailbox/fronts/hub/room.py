"""What is behind `/store/v1/`: verbs, batches of sends, notes, and the stream of each edge.

    POST verbs/VERB   wire.Asked → the verb's answer
    POST sends        wire.Sent, a line each → a line each, {"number", "answer"} or {"number", "error", …}
    POST notes        wire.Notes → 204
    POST stream       wire.Opening → events: hello, ring, bell, beat
    POST files        a piece of a file that a send will name → 204
    POST attachment   wire.Asked with {"id", "name"} → the content
    GET  openapi.json

A refusal is JSON as everywhere, {"error", "message", "hint"}; its status says whose turn it is (RFC 9110 section 15).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import Ending, key
from mcp_mailbox.credentials import Credential, Scope
from mcp_mailbox.errors import Blame, Code, Refusal
from mcp_mailbox.fronts import arguments, fence, meaning, render
from mcp_mailbox.fronts.http import body, gate
from mcp_mailbox.fronts.http.gate import Refused
from mcp_mailbox.fronts.http.stream import JSON, OpenStreams, Stream, reply
from mcp_mailbox.fronts.http.visit import Visit
from mcp_mailbox.fronts.hub import openapi, wire
from mcp_mailbox.fronts.hub.edges import Edge, Edges
from mcp_mailbox.fronts.verbs import VERBS, Asking, draft_of
from mcp_mailbox.message import LONGEST, Draft
from mcp_mailbox.postoffice import Call, Caller, Handed
from mcp_mailbox.report import Undelivered

M = TypeVar("M", bound=BaseModel)
Json = dict[str, Any]

logger = logging.getLogger(__name__)
calls = logging.getLogger("mcp_mailbox.calls")

_STATUS = {Blame.CALLER: 400, Blame.STATE: 409, Blame.STORE: 503}
_STATUSES = {
    Code.FORBIDDEN: 403,
    Code.UNKNOWN_MAILBOX: 404,
    Code.UNKNOWN_CHANNEL: 404,
    Code.UNKNOWN_MESSAGE: 404,
    Code.UNKNOWN_ATTACHMENT: 404,
    Code.NO_MAILBOX: 404,
    Code.BODY_TOO_LARGE: 413,
    Code.ATTACHMENT_TOO_LARGE: 413,
    Code.OVER_BUDGET: 429,
    Code.TOO_MANY_HOPS: 429,
    Code.OVER_RATE: 429,
    Code.OVER_WAITERS: 429,
    Code.OVER_STORAGE: 429,
    Code.OVER_MAILBOXES: 429,
}
_CODES = {code.value: code for code in Code}
_OCTETS = "application/octet-stream"
_FILE = re.compile(wire.FILE_PATTERN, re.ASCII)
_OFFSET = re.compile(r"\d{1,12}", re.ASCII)
_EDGE = re.compile(wire.EDGE_PATTERN, re.ASCII)


class StoreRoom:
    """See `Room`."""

    def __init__(self, edges: Edges, streams: OpenStreams) -> None:
        self._edges = edges
        self._counter = edges.counter
        self._office = edges.counter.office
        self._open_streams = streams
        self._ending = Ending()

    def leave(self) -> None:
        """See `Room`."""
        self._ending.set()

    def close(self) -> None:
        """See `Room`."""

    def ended(self, credential: str) -> None:
        """See `Room`. Its streams end, and with them, after a while, what was kept for its edges."""

    def status(self) -> Json:
        """See `Room`."""
        return {"edges": len(self._edges)}

    async def serve(self, visit: Visit) -> None:
        """See `Room`."""
        head = visit.head
        place = head.path.removeprefix(wire.PATH)
        if place == "openapi.json" and head.method == "GET":
            await _answer(visit, openapi.document())
            return
        if head.method != "POST":
            raise Refused(405, f"{head.method} means nothing here.", {"allow": "POST"})
        try:
            edge = self._edge(visit)
        except Refusal as refusal:
            await _refuse(visit, refusal)
        else:
            await self._serve(visit, edge, place)

    async def _serve(self, visit: Visit, edge: Edge, place: str) -> None:
        if place == "stream":
            await self._stream(visit, edge, await _read(visit, wire.Opening))
        elif place == "notes":
            await self._notes(visit, edge, await _read(visit, wire.Notes))
            await visit.reply(204)
        elif place == "sends":
            await self._sends(visit, edge)
        elif place == "files":
            await self._file(visit, edge)
        elif place == "attachment":
            await self._attachment(visit, edge, await _read(visit, wire.Asked))
        else:
            verb = place.removeprefix("verbs/")
            if verb not in VERBS or verb == place:
                raise Refused(404, "There is nothing here; openapi.json says what there is.")
            await self._verb(visit, edge, verb, await _read(visit, wire.Asked))

    def _edge(self, visit: Visit) -> Edge:
        name = visit.head.get(wire.EDGE_HEADER) or ""
        if not _EDGE.fullmatch(name):
            raise Refused(400, f"The header {wire.EDGE_HEADER} must match {wire.EDGE_PATTERN}.")
        return self._edges.of(visit.visitor.credential, name)

    # -- verbs

    async def _verb(self, visit: Visit, edge: Edge, verb: str, said: wire.Asked) -> None:
        try:
            answer = await self._ask(visit, edge, verb, said)
        except Refusal as refusal:
            await _refuse(visit, refusal, raw=said.raw)
        else:
            await _answer(visit, answer if said.raw else fence.fenced(answer))

    async def _ask(self, visit: Visit, edge: Edge, verb: str, said: wire.Asked) -> Json:
        """Do what the verb says, and let go of the files that were handed in for it, unless it is to come again."""
        try:
            answer = await self._asked(visit, edge, verb, said)
        except Refusal as refusal:
            if refusal.blame is not Blame.STORE:
                await self._let_go(visit, edge, said)
            raise
        await self._let_go(visit, edge, said)
        return answer

    async def _asked(self, visit: Visit, edge: Edge, verb: str, said: wire.Asked) -> Json:
        """Do what the verb says. A wait is answered at once: the edge waits, and hears when to look again."""
        asking = await self._asking(visit, edge, verb, said)
        if isinstance(asking.asked, arguments.Own):
            await self._listen(edge, asking.call)
        try:
            if isinstance(asking.asked, arguments.WaitForMessage):
                answer = await self._look(edge, said.who, asking)
            else:
                answer = await self._counter.ask(asking)
        except Refusal as refusal:
            if refusal.code is Code.NO_FILE and asking.handed:  # not the sender's mistake: it is to come again
                raise Refusal(Code.STORE_FAILED, refusal.problem, "Hand it in again.") from None
            raise
        self._log(visit, asking, answer)
        return answer

    async def _let_go(self, visit: Visit, edge: Edge, said: wire.Asked) -> None:
        """Count no more what was handed in for that, and remove it."""
        for each in self._handed(visit.visitor.credential, edge, said):
            edge.staged.pop(each.copy, None)
            await self._office.attachments.take_back(each.copy)

    async def _listen(self, edge: Edge, call: Call) -> None:
        """Have the edge told of rings of the mailbox that a call acts for, from now on."""
        address = await self._counter.readable(call.caller, call.mailbox)
        edge.listen(call.caller, address, again=False)

    async def _look(self, edge: Edge, who: wire.Who, asking: Asking) -> Json:
        """Hand out what there is to a wait, unless that is over: nobody would see it."""
        call = asking.call
        with edge.looking(call.caller.reader):
            await self._edges.begin(edge, who.life)
            _must_matter(edge, who)
            await self._listen(edge, call)  # before it looks: what comes in between is rung
            answer = await self._counter.ask(asking)
            try:
                _must_matter(edge, who)
            except Refused:
                await self._counter.missed(call.caller, call.request)
                raise
            return answer

    async def _asking(self, visit: Visit, edge: Edge, verb: str, said: wire.Asked) -> Asking:
        """Read what is asked. Raises Refusal for what cannot be read."""
        asked = arguments.parse(VERBS[verb].arguments, verb, said.given)
        if isinstance(asked, arguments.Send) and asked.attach:
            raise Refusal(Code.NO_FILE, "Paths are another machine's.", "Attach where the file is.")
        credential = visit.visitor.credential
        return Asking(
            verb,
            said.given,
            asked,
            self._edges.asked(credential, edge, said.who, now=not isinstance(said, wire.Sent) or said.heard),
            said.label,
            said.longest if said.longest is not None else float("inf"),
            self._ending,
            said.room,
            said.full,
            said.default,
            self._handed(credential, edge, said),
            at_once=True,
            raw=said.raw,
            signature=said.signature,
            written=self._written(said),
        )

    def _written(self, said: wire.Asked) -> int | None:
        """Return when what an outbox had was written, in the time of this machine."""
        age = said.age if isinstance(said, wire.Sent) else None
        if age is None or not wire.WAITED_MS <= age <= LONGEST:
            return None
        return max(1, self._counter.clock.now() - age)

    def _log(self, visit: Visit, asking: Asking, answer: Json) -> None:
        if calls.isEnabledFor(logging.INFO):
            principal = visit.visitor.credential.principal
            calls.info("%s", render.summary(principal, asking.verb, asking.given, answer))

    def _handed(self, credential: Credential, edge: Edge, said: wire.Asked) -> list[Handed]:
        """Return the files that are to be attached, by the names under which they lie here."""
        return [Handed(each.name, self._edges.staged(credential, edge, each.copied)) for each in said.files]

    async def _file(self, visit: Visit, edge: Edge) -> None:
        """Keep a piece of a file for the send that will name it."""
        copy, offset = visit.head.get(wire.FILE_HEADER) or "", visit.head.get(wire.OFFSET_HEADER) or ""
        if not _FILE.fullmatch(copy) or not _OFFSET.fullmatch(offset):
            raise Refused(400, f"{wire.FILE_HEADER} must match {wire.FILE_PATTERN}, {wire.OFFSET_HEADER} be a number.")
        piece = await _body(visit, _OCTETS)
        if len(piece) > wire.PIECE_BYTES:
            raise Refused(413, f"A piece has {wire.PIECE_BYTES:,} bytes at most.")
        if int(offset) + len(piece) > wire.STAGED_BYTES:
            raise Refused(413, f"A file has {wire.STAGED_BYTES:,} bytes at most.")
        credential = visit.visitor.credential
        try:
            Caller("edge", credential.principal, "default", scopes=credential.scopes).must(Scope.SEND)
            name = self._edges.staged(credential, edge, copy)
            with edge.stage(name, int(offset) + len(piece)):
                await self._office.attachments.hand_in(name, int(offset), piece)
        except Refusal as refusal:
            await _refuse(visit, refusal)
        else:
            await visit.reply(204)

    async def _sends(self, visit: Visit, edge: Edge) -> None:
        """Take in a batch in its order; a line that cannot be is answered, and the others go on."""
        lines = (await _body(visit, wire.NDJSON)).splitlines()
        if len(lines) > wire.SENDS_MOST:
            raise Refused(413, f"A batch has {wire.SENDS_MOST} sends at most.")
        batch = [_parse(line, wire.Sent) for line in lines if line.strip()]
        answers = bytearray()
        for run in _runs(batch):
            try:
                said = await self._sent_together(visit, edge, run)
            except Refusal as refusal:
                if not answers:
                    await _refuse(visit, refusal)  # nothing was done: it is to come again
                    return
                answers += _dump({"number": run[0].number, **render.problem(refusal)})
                break  # what follows must not overtake it
            for sent, answer in zip(run, said, strict=True):
                answers += _dump({"number": sent.number, **answer})
        about = [(b"content-type", wire.NDJSON.encode())]
        await visit.send({"type": "http.response.start", "status": 200, "headers": about})
        await visit.send({"type": "http.response.body", "body": bytes(answers)})

    async def _sent_together(self, visit: Visit, edge: Edge, run: Sequence[wire.Sent]) -> list[Json]:
        """Do what an outbox had; return what each line is answered. Raises Refusal(blame: the store) alone."""
        if not _is_plain(run[0]):
            return [await self._concluded(visit, edge, sent, await self._sent(visit, edge, sent)) for sent in run]
        sends: dict[int, tuple[Asking, Draft]] = {}
        said: dict[int, Json | Refusal] = {}
        for place, sent in enumerate(run):
            try:
                asking = await self._asking(visit, edge, sent.verb, sent)
                sends[place] = (asking, draft_of(asking))
            except Refusal as refusal:
                if refusal.blame is Blame.STORE:
                    raise  # before anything behind it is sent
                said[place] = refusal
        done = await self._counter.send_all(list(sends.values()))
        for (place, (asking, _)), answer in zip(sends.items(), done, strict=True):
            said[place] = answer
            if not isinstance(answer, Refusal):
                self._log(visit, asking, answer)
        return [await self._concluded(visit, edge, sent, said[place]) for place, sent in enumerate(run)]

    async def _sent(self, visit: Visit, edge: Edge, sent: wire.Sent) -> Json | Refusal:
        try:
            if sent.refused is not None:
                raise render.Relayed(_CODES.get(sent.refused.error, Code.GIVEN_UP), sent.refused.model_dump())
            return await self._ask(visit, edge, sent.verb, sent)
        except Refusal as refusal:
            return refusal

    async def _concluded(self, visit: Visit, edge: Edge, sent: wire.Sent, said: Json | Refusal) -> Json:
        """Return the answer to a line. What is refused is reported to its sender, unless that hears it.

        Raises Refusal(blame: the store) alone: it is to come again.
        """
        if isinstance(said, Refusal):
            if said.blame is Blame.STORE:
                raise said
            if sent.verb != "send" or sent.heard:
                return render.problem(said)
            known, told = await self._report(visit, edge, sent, [("", said.problem, said.hint)])
            return {"answer": known} if known is not None else {**render.problem(said), "told": told}
        refused = [each for each in said.get("to", ()) if "error" in each]
        if refused and sent.verb == "send" and not sent.heard:
            why = [(each["address"], each["message"], each.get("hint", "")) for each in refused]
            await self._report(visit, edge, sent, why, said["id"])
        return {"answer": said}

    async def _report(
        self, visit: Visit, edge: Edge, sent: wire.Sent, why: list[tuple[str, str, str]], stored: str | None = None
    ) -> tuple[Json | None, bool]:
        """Have it reported; return the answer of what was done after all, or whether its sender is told.

        Raises Refusal(blame: the store) alone.
        """
        problems = [(whom, " ".join(filter(None, (problem, hint)))) for whom, problem, hint in why]
        to, subject = sent.given.get("to", ()), sent.given.get("subject", "")
        names = [_text(each) for each in to] if isinstance(to, list) else [_text(to)]
        what = Undelivered(f"{wire.MARK}{sent.number}", names, _text(subject), sent.at, problems, stored)
        try:
            call = self._edges.asked(visit.visitor.credential, edge, sent.who, now=False)
            known = await self._office.undelivered(call, what)
        except Refusal as refusal:
            if refusal.blame is Blame.STORE:
                raise
            logger.warning("nobody is told that %s was refused: %s", what.id, refusal)
            return None, False
        return (render.accepted(known) if known is not None else None), True

    async def _attachment(self, visit: Visit, edge: Edge, said: wire.Asked) -> None:
        try:
            call = self._edges.asked(visit.visitor.credential, edge, said.who)
            id_, name = str(said.given.get("id", "")), str(said.given.get("name", ""))
            given = await self._counter.content(call, id_, name)
        except Refusal as refusal:
            await _refuse(visit, refusal)
            return
        about = json.dumps(asdict(given.attachment) | {"stranger": given.stranger})
        headers = [(b"content-type", b"application/octet-stream"), (b"mailbox-attachment", about.encode())]
        headers.append((b"content-length", b"%d" % len(given.content)))
        await visit.send({"type": "http.response.start", "status": 200, "headers": headers})
        await visit.send({"type": "http.response.body", "body": given.content})

    async def _notes(self, visit: Visit, edge: Edge, said: wire.Notes) -> None:
        """Do what they say, each once and in its turn."""
        async with edge.noting:
            for number, note in enumerate(said.notes, said.first):
                if edge.is_new(said.life, number):
                    await self._note(visit, edge, note)
                    edge.noted(said.life, number)

    async def _note(self, visit: Visit, edge: Edge, note: wire.Note) -> None:
        try:
            await self._edges.note(visit.visitor.credential, edge, note)
        except Refusal as refusal:
            if refusal.blame is Blame.STORE:
                raise Refused(503, str(refusal), {"retry-after": "1"}) from None
            logger.info("a note of an edge was refused: %s", refusal)

    # -- the stream

    async def _stream(self, visit: Visit, edge: Edge, opening: wire.Opening) -> None:
        """Tell an edge what rings, and that we are here, until it goes or opens another stream."""
        _must_be_latest(edge, opening)
        try:
            unseen = await self._edges.unseen(edge, opening.life)
            _must_be_latest(edge, opening)
            number = edge.begin()
        except Refusal as refusal:
            await _refuse(visit, refusal)
            return
        stream = visit.stream()
        self._open_streams.enter(stream)
        try:
            with stream.scope:
                if stream.why is None:
                    await self._tell(visit, edge, opening, stream, number, unseen)
            await stream.finish(None)
        finally:
            self._open_streams.leave(stream)
            edge.broke(number)

    async def _tell(
        self, visit: Visit, edge: Edge, opening: wire.Opening, stream: Stream, number: int, unseen: Sequence[str]
    ) -> None:
        epoch, _, since = (opening.since or "").partition(".")
        known = epoch == self._edges.epoch and since.isascii() and since.isdigit()
        caller = self._edges.caller(visit.visitor.credential, edge, wire.Who(reader="edge", request="stream"))
        wanted: list[Address] = []
        for name in opening.listens:
            with suppress(Refusal):
                wanted.append(addresses.parse(name, caller.space))
        edge.opened_by = opening.life
        edge.listen_only({key(address) for address in wanted})
        hello: Json = {"epoch": self._edges.epoch, "beat": wire.BEAT_SECONDS, "resumed": known}
        if unseen:
            hello |= {"unseen": unseen}
        # Before thousands of mailboxes are looked up: an edge gives up what is silent.
        await stream.tell(_event("hello", hello))
        with self._edges.beating(partial(stream.tell_now, _BEAT)):  # or something is being told, which is as good
            for address in wanted:
                if not edge.is_newest(number):
                    break
                await self._hear(edge, caller, address)
            edge.catch_up(int(since) if known else None)
            async with aclosing(edge.events(number)) as events:
                async for at, name, said in events:
                    await stream.tell(_event(name, said, f"{self._edges.epoch}.{at}"))

    async def _hear(self, edge: Edge, caller: Caller, address: Address) -> None:
        """Have the edge hear of a mailbox if it still may."""
        if await self._edges.heard(caller, str(address)) is None:
            edge.deafen(address)
            return
        # What rang at one that was not heard until now is not known: that one is told in any case.
        with suppress(Refusal):  # for too many
            edge.listen(caller, address, again=not edge.hears(address))


def _must_be_latest(edge: Edge, opening: wire.Opening) -> None:
    """Refuse the stream of a life that has ended: its opening may have been on its way for longer."""
    if opening.life and opening.life < max(edge.life, edge.opened_by):
        raise Refused(409, "A later life of this edge is heard.")


def _must_matter(edge: Edge, who: wire.Who) -> None:
    """Refuse a wait whose answer nobody would see. It may have been on its way for longer than the word of that."""
    if edge.is_over(who):
        raise Refused(409, "Whoever asked this has given it up.")


def _is_plain(sent: wire.Sent) -> bool:
    """Whether it is a message without files: many are done with one sync."""
    return sent.verb == "send" and sent.refused is None and not sent.files


def _runs(batch: Sequence[wire.Sent]) -> Iterator[Sequence[wire.Sent]]:
    """Yield what is done together, in its order."""
    for plain, run in groupby(batch, key=_is_plain):
        if plain:
            yield list(run)
        else:
            yield from ([sent] for sent in run)


def _text(said: object) -> str:
    """Return what was to be a text as one that can be kept: it may have been refused for not being one."""
    return str(said).encode(errors="replace").decode()


def _event(name: str, said: Mapping[str, object], id_: str | None = None) -> bytes:
    """Spell an event (WHATWG HTML, section 9.2)."""
    about = f"id: {id_}\n" if id_ is not None else ""
    return f"event: {name}\n{about}data: {render.dump(said)}\n\n".encode()


_BEAT = _event("beat", {})


def _no_number(text: str) -> float:
    raise ValueError(text)


_DECODER = json.JSONDecoder(object_pairs_hook=body.refuse_twice, parse_constant=_no_number)


async def _read(visit: Visit, model: type[M]) -> M:
    text = await _body(visit, JSON)
    found = _parse(text, model)
    if _has_half(text):
        why = Refusal(Code.BAD_ARGUMENT, "A text holds a lone surrogate.", "Send valid Unicode.")
        raise Refused(400, why.problem, body=render.problem(why))
    return found


def _has_half(text: bytes) -> bool:
    """Whether there is half of a letter in JSON, which nothing takes in that keeps or tells it."""
    if b"\\u" not in text and b"\xed" not in text:
        return False
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


async def _body(visit: Visit, kind: str) -> bytes:
    gate.must_be(visit.head, kind)
    found = await body.read(visit.head, visit.receive)
    if not visit.visitor.good():  # a body may take its time
        raise gate.unauthorized()
    return found


def _parse(text: bytes, model: type[M]) -> M:
    """Read an object. Raises Refused(400) with what is wrong with it."""
    try:
        said = _DECODER.decode(text.decode())
        if meaning.is_deeper(said, wire.DEEPEST):
            raise Refused(400, "The body is nested too deeply.")
        return model.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Refused(400, f"{'.'.join(map(str, first['loc'])) or 'The body'}: {first['msg']}.") from None
    except body.Twice as twice:
        raise Refused(400, f"The name {twice.name[:40]!a} stands twice in one object.") from None
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not valid JSON.") from None


def _dump(answer: Mapping[str, object]) -> bytes:
    return render.dump(answer).encode("utf-8", "backslashreplace") + b"\n"


async def _answer(visit: Visit, answer: Mapping[str, object]) -> None:
    await reply(visit.send, 200, render.dump(answer).encode())


async def _refuse(visit: Visit, refusal: Refusal, *, raw: bool = False) -> None:
    status = _STATUSES.get(refusal.code, _STATUS[refusal.blame])
    headers = [(b"retry-after", b"1")] if status in {429, 503} else []
    problem = render.problem(refusal)
    await reply(visit.send, status, render.dump(problem if raw else fence.fenced(problem)).encode(), headers)
