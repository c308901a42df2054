"""Speaks to the hub over HTTP: one request, one answer or the reason why there is none."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import MappingProxyType
from typing import Any, Self

import anyio
import httpx2

from mcp_mailbox import __version__
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts import meaning
from mcp_mailbox.fronts.hub import wire
from mcp_mailbox.fronts.render import Relayed

Json = dict[str, Any]

_CONNECT_SECONDS = wire.SILENT_SECONDS
"""For each step of it: a way on which a packet takes a second takes several for all."""
_OPENING_SECONDS = 10.0
"""For a stream's head as a whole, however slowly it trickles."""
_ANSWER_SECONDS = 20.0
"""For an answer as a whole, however slowly it trickles: no verb takes long there, waits are waited for here."""
_PIECE = wire.PIECE_BYTES // 4
"""Bytes of a piece of a file: a line that breaks loses no more."""
_RATE = 16 * 1024
"""Bytes a second at which a request must go out, as a hub sees it, too."""
_CONTENT_SECONDS = 120.0
"""For what is attached to a message, which may be megabytes."""
_CODES = {code.value: code for code in Code}
_IDLE_SECONDS = 4.0
"""For which a connection is kept: servers close idle ones after 5 s and more."""
_EVENT_BYTES = 1 << 20
_ANSWER_BYTES = 8 << 20
"""Of an answer, as JSON: more than any verb says."""
_CONTENT_BYTES = 64 << 20
"""Of an attachment: more than any has."""


class Away(Exception):  # noqa: N818 - what happens to links
    """There is no answer. The hub has certainly not done it, unless this is `Unanswered`."""


class Unanswered(Away):
    """There is no answer, and the hub may have done it."""


class Strange(Exception):  # noqa: N818
    """What answers there is no hub, or not one for us; trying again at once would not help."""


class Unreadable(Strange):
    """What was asked is nothing that it can read: asked again it would be the same."""


class TooLarge(Unreadable):
    """What was asked is more than it takes, or something on the way there."""


_UNREADABLE = {httpx2.codes.BAD_REQUEST.value: Unreadable, httpx2.codes.CONTENT_TOO_LARGE.value: TooLarge}


class Hub:
    """The hub at that address, to be entered for as long as it is asked."""

    def __init__(
        self, url: str, token: str, edge: str, verify: ssl.SSLContext | bool = True, proxy: str | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._closed = False
        self._make = partial(
            httpx2.AsyncClient,
            base_url=self.url,
            headers={
                "authorization": f"Bearer {token}",
                wire.EDGE_HEADER: edge,
                "user-agent": f"mcp-mailbox/{__version__}",
                "accept-encoding": "identity",  # a few packed bytes would be as many as they like
            },
            timeout=httpx2.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS, write=None),
            limits=httpx2.Limits(max_connections=40, max_keepalive_connections=20, keepalive_expiry=_IDLE_SECONDS),
            verify=verify if isinstance(verify, ssl.SSLContext) else httpx2.create_ssl_context(verify),
            proxy=proxy,
            follow_redirects=False,
        )
        self._client = self._make()

    async def __aenter__(self) -> Self:
        """Be ready to ask."""
        return self

    async def __aexit__(self, *about: object) -> None:
        """Close what is open; who asks from now on is told that we are stopping."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            await self._client.aclose()

    async def renew(self) -> None:
        """Let go of all connections: one of them was found to be dead, and the others may have died with it."""
        former, self._client = self._client, self._make()
        with anyio.CancelScope(shield=True):
            await former.aclose()

    async def verb(self, name: str, asked: Mapping[str, object]) -> Json:
        """Ask a verb. Raises Refusal as the hub does, Away and Strange."""
        return _object(await self._post(f"verbs/{name}", wire_json(asked), "application/json"))

    async def notes(self, notes: Sequence[Mapping[str, object]], life: str, first: int) -> None:
        """Tell these, in their order: the first one's number is that, in that life of ours."""
        said = {"notes": list(notes), "life": life, "first": first}
        await self._post("notes", wire_json(said), "application/json")

    async def sends(self, lines: Sequence[Mapping[str, object]]) -> list[Json]:
        """Hand in a batch; the hub may answer the first few lines alone, and then has taken no more."""
        body = b"".join(wire_json(line) + b"\n" for line in lines)
        answer = await self._post("sends", body, wire.NDJSON)
        return [_object(line) for line in answer.splitlines()]

    async def hand_in(self, copy: str, content: bytes) -> None:
        """Hand in a file for a send that will name it. Raises as `verb`."""
        for offset in range(0, max(len(content), 1), _PIECE):
            about = {wire.FILE_HEADER: copy, wire.OFFSET_HEADER: str(offset)}
            piece = content[offset : offset + _PIECE]
            await self._respond("files", piece, "application/octet-stream", about=about)

    async def attachment(self, asked: Mapping[str, object]) -> tuple[Json, bytes]:
        """Return what is said of an attachment, and what is in it."""
        response, content = await self._respond(
            "attachment", wire_json(asked), "application/json", _CONTENT_BYTES, seconds=_CONTENT_SECONDS
        )
        said = _object(response.headers.get("mailbox-attachment", "").encode())
        if not all(isinstance(said.get(name), str) for name in ("name", "type")) or said.get("size") != len(content):
            raise Strange("what it says of an attachment is something else")
        return said, content

    @asynccontextmanager
    async def stream(self, opening: Mapping[str, object]) -> AsyncIterator[AsyncIterator[httpx2.ServerSentEvent]]:
        """Open the stream, and yield its events."""
        request = self._client.build_request(
            "POST",
            f"{wire.PATH}stream",
            content=wire_json(opening),
            headers={"content-type": "application/json", "accept": "text/event-stream"},
            timeout=httpx2.Timeout(wire.SILENT_SECONDS),
        )
        try:
            with anyio.fail_after(_OPENING_SECONDS):
                response = await self._send(request)
        except TimeoutError:
            raise Away("it does not open a stream in time") from None
        except httpx2.RequestError as error:
            raise Away(_why(error)) from error
        try:
            if response.status_code != httpx2.codes.OK:
                with anyio.move_on_after(_OPENING_SECONDS):
                    _check(response, await _content(response, _ANSWER_BYTES))
                raise Strange(f"it answers {response.status_code}")
            yield aiter(httpx2.EventSource(response, _EVENT_BYTES))
        except httpx2.RequestError as error:
            raise Away(_why(error)) from error
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        try:
            return await self._client.send(request, stream=True)
        except AttributeError as error:
            # anyio asks a connection for its socket's address, and uvloop has no socket any more where the other end
            # has reset it in the moment in which it was made: a hub that is killed does that. No layer expects it.
            raise httpx2.ReadError("the connection was reset at once", request=request) from error

    async def _post(self, place: str, body: bytes, kind: str) -> bytes:
        return (await self._respond(place, body, kind, _ANSWER_BYTES))[1]

    async def _respond(
        self,
        place: str,
        body: bytes,
        kind: str,
        most: int = _ANSWER_BYTES,
        about: Mapping[str, str] = MappingProxyType({}),
        seconds: float = _ANSWER_SECONDS,
    ) -> tuple[httpx2.Response, bytes]:
        if self._closed:
            raise Refusal(Code.STOPPING, "The post office is stopping.", "Do the same again.")
        headers = {"content-type": kind, **about}
        request = self._client.build_request("POST", f"{wire.PATH}{place}", content=body, headers=headers)
        try:
            with anyio.fail_after(seconds + len(body) / _RATE):
                response = await self._send(request)
                try:
                    content = await _content(response, most)
                finally:
                    with anyio.CancelScope(shield=True):
                        await response.aclose()
        except TimeoutError:
            raise Unanswered("it does not answer in time") from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise Away(_why(error)) from error
        except httpx2.RequestError as error:
            raise Unanswered(_why(error)) from error
        _check(response, content)
        return response, content


async def _content(response: httpx2.Response, most: int) -> bytes:
    """Return what an answer has, as it came. Raises Strange for too much."""
    content = bytearray()
    async for piece in response.aiter_raw():
        content += piece
        if len(content) > most:
            raise Strange(f"its answer has more than {most:,} bytes")
    return bytes(content)


def wire_json(said: Mapping[str, object]) -> bytes:
    """Spell an object; what is None is left out by whoever says it."""
    return json.dumps(said, ensure_ascii=True, separators=(",", ":")).encode()


def parsed(text: str | bytes) -> object:
    """Read JSON that a hub, whoever that is, has sent, and that can be kept and told. Raises Strange."""
    try:
        said = json.loads(text)
        # Python reads halves of letters, and numbers that are none, and no file or host would take them.
        json.dumps(said, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise Strange("what it says is no JSON") from None
    if meaning.is_deeper(said, wire.DEEPEST):
        raise Strange("what it says is nested too deeply")
    return said


def _object(text: bytes) -> Json:
    found = parsed(text)
    if not isinstance(found, dict):
        raise Strange("its answer is no object")
    return found


def _check(response: httpx2.Response, content: bytes) -> None:
    """Raise for an answer that is none."""
    status = response.status_code
    if status < 300:  # noqa: PLR2004
        return
    if status == httpx2.codes.UNAUTHORIZED:
        raise Strange("it does not know our token: it is wrong, has expired or was revoked")
    said: object = None
    with suppress(Strange):
        said = parsed(content)
    if isinstance(said, dict) and str(said.get("error")) in _CODES:
        refusal = refused(said)
        if status == httpx2.codes.SERVICE_UNAVAILABLE and refusal.code is Code.STOPPING:
            raise Away("it is stopping")
        raise refusal
    if status >= 500 or status in {httpx2.codes.REQUEST_TIMEOUT, httpx2.codes.TOO_MANY_REQUESTS}:  # noqa: PLR2004
        raise Unanswered(f"it answers {status}")
    about = said.get("error") if isinstance(said, dict) else None
    kind = _UNREADABLE.get(status, Strange)
    raise kind(f"it answers {status}" + (f": {str(about)[:200]}" if about else ""))


def refused(said: Mapping[str, Any]) -> Refusal:
    """Return the refusal that the hub has told."""
    return Relayed(_CODES.get(str(said.get("error")), Code.BAD_ARGUMENT), said)


def _why(error: httpx2.RequestError) -> str:
    return str(error) or type(error).__name__
