"""Which mailbox the requests of a token act for."""

from __future__ import annotations

import sys

from mcp.shared.inbound import decode_header_value

from mcp_mailbox import addresses
from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts.http.gate import Head, Refused
from mcp_mailbox.fronts.http.visit import Visit
from mcp_mailbox.fronts.mcp.client import Client
from mcp_mailbox.fronts.mcp.patience import Patiences
from mcp_mailbox.fronts.verbs import Counter
from mcp_mailbox.postoffice import Caller

ADDRESS_HEADER = "mailbox-address"
SPACE_HEADER = "mailbox-space"
_PREPARED = 10_000
"""Mailboxes of headers and tokens that are known to be there."""


class Clients:
    """Makes the state of a request or session: a mailbox may be named by its token, a header or the call.

    2026-07-28 has no sessions, and one token may be several agents': nothing that one request opens is the next one's.
    """

    def __init__(self, counter: Counter, space: str) -> None:
        self._counter = counter
        self._space = space
        self._patiences = Patiences()
        self._prepared: dict[tuple[str, str, str, str | None], None] = {}

    async def make(self, visit: Visit, session: str | None, host: str = "") -> Client:
        """Return it, of a session that begins or of this request (None), its mailbox opened.

        `host` is what a request that stands alone says of who sends it.
        """
        credential = visit.visitor.credential
        address, space = _header(visit.head, ADDRESS_HEADER), _header(visit.head, SPACE_HEADER)
        configured = address or credential.mailbox
        bad_space: Refusal | None = None
        try:
            space = addresses.check_name(space, "space") if space else credential.space or self._space
        except Refusal as refusal:
            space, bad_space = self._space, Refusal(refusal.code, f"Mailbox-Space: {refusal.problem}", refusal.hint)
        caller = Caller(
            f"http.{session or credential.id}",
            credential.principal,
            space,
            mailbox=configured,
            binds=False,
            scopes=credential.scopes,
            how=sys.intern(f"HTTP, token {credential.name}"),  # one text for all of them
            several=session is None,
            credential=credential.id,
            within=credential.within,
        )
        by = "Mailbox-Address" if address else "Token's mailbox"
        patience = self._patiences.of(credential.id, space, configured, host) if session is None else None
        client = Client(self._counter, caller, configured, configured_by=by, forgets=session is None, patience=patience)
        client.refuse(bad_space)
        key = (credential.principal, configured or "", space, credential.within)
        if configured is not None and key not in self._prepared:
            await client.prepare()
            if not client.refused:
                self._note(key)
        return client

    def _note(self, key: tuple[str, str, str, str | None]) -> None:
        if len(self._prepared) >= _PREPARED:
            self._prepared.clear()
        self._prepared[key] = None


def _header(head: Head, name: str) -> str | None:
    """Return a header that may be spelled as SEP-2243 spells what is not ASCII. Raises Refused(400)."""
    value = head.get(name)
    decoded = decode_header_value(value)
    if value is not None and decoded is None:
        raise Refused(400, f"The header {name} is no valid base64.")
    return decoded or None
