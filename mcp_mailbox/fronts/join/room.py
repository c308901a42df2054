"""`POST /join`: a code for a token that only its bearer has.

Who is invited makes the token itself and sends its SHA-256 with the code; the answer says for whom it speaks. So the
same request again, whose answer was lost, is answered the same and gives nobody else anything; and whoever reads what
goes by, or finds a code that was used, has no token. A code that is mistyped, unknown, expired, revoked or used is
answered alike, and not before a while has passed, whatever it was.
"""

from __future__ import annotations

import json
import math

import anyio
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcp_mailbox import invitation
from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts import render
from mcp_mailbox.fronts.http import body, gate
from mcp_mailbox.fronts.http.body import Twice
from mcp_mailbox.fronts.http.gate import Head, Refused
from mcp_mailbox.fronts.http.stream import JSON, Receive, Send, reply
from mcp_mailbox.fronts.join.throttle import Throttle
from mcp_mailbox.tokens import Tokens

PATH = "/join"
BODY_BYTES = 4096
REFUSED_AFTER = 0.25
"""Seconds after which a code that is no good is told so: longer than any of the ways to find that out takes."""
_NO = {
    "error": "not_invited",
    "message": "This code is not good here: it is mistyped, was used, has expired or was revoked.",
    "hint": "Ask who invited you for another one.",
}


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    code: str = Field(max_length=100)
    token_sha256: str = Field(max_length=100)


class JoinRoom:
    """See `Porch`. `hub` is how this server is called; `proxied` says that a proxy tells where a request comes from."""

    def __init__(self, tokens: Tokens, hub: str, *, proxied: bool = False) -> None:
        self._tokens = tokens
        self._hub = hub
        self._proxied = proxied
        self._throttle = Throttle()

    async def serve(self, head: Head, client: str, receive: Receive, send: Send) -> None:
        """See `Porch`."""
        if head.method != "POST":
            raise Refused(405, f"{head.method} means nothing here.", {"allow": "POST"})
        gate.must_be(head, JSON)
        if self._proxied:  # the last one is what the proxy itself has added: those before it anybody may have written
            client = (head.get("x-forwarded-for") or "").rpartition(",")[2].strip() or client
        wait = math.ceil(self._throttle.take(client))
        if wait:
            problem = {
                "error": "too_many_tries",
                "message": "Too many codes were tried.",
                "hint": f"Try again in {wait} s.",
            }
            raise Refused(429, problem["message"], {"retry-after": str(wait), "connection": "close"}, problem)
        begun = anyio.current_time()
        asked, digest = _read(await body.read(head, receive, BODY_BYTES))
        credential = await self._tokens.redeem(asked.code, digest)
        if credential is None:
            await anyio.sleep_until(begun + REFUSED_AFTER)
            raise Refused(403, _NO["message"], body=_NO)
        self._throttle.give_back(client)
        answer = {
            "id": credential.id,
            "principal": credential.principal,
            "scopes": sorted(credential.scopes),
            "mailbox": credential.mailbox,
            "space": credential.space,
            "expires_at": render.moment(credential.expires_at) if credential.expires_at is not None else None,
            "hub": self._hub,
        }
        await reply(send, 200, json.dumps(answer).encode())


def _read(sent: bytes) -> tuple[_Asked, bytes]:
    """Return what was asked, and the token's digest. Raises Refused(400)."""
    try:
        asked = _Asked.model_validate(json.loads(sent, object_pairs_hook=body.refuse_twice))
        return asked, invitation.token_digest(asked.token_sha256)
    except Twice as twice:
        problem, hint = f"{twice.name[:40]!a} stands twice in one object.", ""
    except ValidationError as error:
        first = error.errors()[0]
        problem, hint = f"{'.'.join(map(str, first['loc'])) or 'The body'}: {first['msg']}.", ""
    except (ValueError, RecursionError):
        problem, hint = "The body is no JSON.", ""
    except Refusal as refusal:
        problem, hint = refusal.problem, refusal.hint
    raise Refused(400, problem, body={"error": "bad_argument", "message": problem, "hint": hint})
