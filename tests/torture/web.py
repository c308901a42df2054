"""The server spoken to over HTTP, as both protocol eras have it: in a session, or each request alone.

Rules connections, sessions, streams and time-outs. Refuses to know what a tool is for.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from tests.torture.session import Json, Lost, TimedOut, content, result

SESSION = "2025-11-25"
ALONE = "2026-07-28"
_AWAY = {404, 503}
"""A session that a killed post office took with it; a post office that is about to stop."""
_NAP = 0.05
_META = "io.modelcontextprotocol/"


class Unexpected(Exception):  # noqa: N818
    """A status that nothing of what happens to a client explains."""


class Web:
    """One client's requests, on one connection as long as it lasts."""

    def __init__(self, port: int, token: str) -> None:
        self.pid = os.getpid()
        self._port = port
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
        }
        self._asked = 0
        self._line: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Leave without a word."""
        self._hang_up()

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _ask(self, message: Json, more: dict[str, str], patience: float) -> Json:
        """Post it; return the response to it, {} when there is none to come. Raises Lost and TimedOut."""
        try:
            return self._post(message, more, time.monotonic() + patience)
        except TimeoutError as error:
            self._hang_up()  # which cancels a request that stands alone
            raise TimedOut from error
        except (OSError, http.client.HTTPException) as error:
            self._hang_up()
            raise Lost from error
        except Lost:
            self._hang_up()
            raise

    def _post(self, message: Json, more: dict[str, str], deadline: float) -> Json:
        if self._line is None:
            self._line = http.client.HTTPConnection("127.0.0.1", self._port)
        if self._line.sock is None:
            self._line.connect()
        wire: socket.socket = self._line.sock
        _limit(wire, deadline)
        self._line.request("POST", "/mcp", json.dumps({"jsonrpc": "2.0", **message}).encode(), self._headers | more)
        answer = self._line.getresponse()
        if answer.status in _AWAY:
            raise Lost
        if answer.status not in {200, 202, 400}:
            raise Unexpected(f"{answer.status}: {answer.read()!r}")
        self._note(answer)
        if answer.getheader("Content-Type") == "text/event-stream":
            return _event(answer, message["id"], wire, deadline)
        body = answer.read()
        return json.loads(body) if body else {}

    def _note(self, answer: http.client.HTTPResponse) -> None:
        """Look at an answer's headers."""


class InSession(Web):
    """2025-11-25: a session remembers the mailbox that was opened."""

    def __init__(self, port: int, token: str) -> None:
        super().__init__(port, token)
        self._session: dict[str, str] = {}

    def greet(self, name: str, patience: float) -> None:
        """Begin the session."""
        await_server(self._port, patience)
        client = {"name": name, "version": "0"}
        params = {"protocolVersion": SESSION, "capabilities": {}, "clientInfo": client}
        result(self._ask({"id": 0, "method": "initialize", "params": params}, {}, patience))
        self._ask({"method": "notifications/initialized"}, self._session, patience)

    def close(self) -> None:
        """End the session."""
        if self._line is not None and self._session:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._line.timeout = 5.0
                self._line.request("DELETE", "/mcp", headers=self._headers | self._session)
                self._line.getresponse().read()
        self._hang_up()

    def call(self, tool: str, arguments: Mapping[str, Any], patience: float) -> Json:
        """Return the structured answer of a tool. Raises Lost, TimedOut or Refused."""
        self._asked += 1
        number = self._asked
        params = {"name": tool, "arguments": arguments}
        try:
            message = self._ask({"id": number, "method": "tools/call", "params": params}, self._session, patience)
        except TimedOut:
            if number % 2:  # the others only drop the connection, which a client of this era may do and come back
                about = {"method": "notifications/cancelled", "params": {"requestId": number}}
                self._ask(about, self._session, 10.0)
            raise
        return content(result(message))

    def _note(self, answer: http.client.HTTPResponse) -> None:
        session = answer.getheader("Mcp-Session-Id")
        if session is not None:
            self._session = {"Mcp-Session-Id": session, "Mcp-Protocol-Version": SESSION}


class Alone(Web):
    """2026-07-28: no session; a header says whose mailbox it is."""

    def __init__(self, port: int, token: str, mailbox: str) -> None:
        super().__init__(port, token)
        self._headers |= {"Mcp-Protocol-Version": ALONE, "Mailbox-Address": mailbox}
        self._meta: Json = {}

    def greet(self, name: str, patience: float) -> None:
        """Begin with what such a client begins with."""
        await_server(self._port, patience)
        self._meta = {
            f"{_META}protocolVersion": ALONE,
            f"{_META}clientInfo": {"name": name, "version": "0"},
            f"{_META}clientCapabilities": {},
        }
        self._request("server/discover", {}, {}, patience)

    def call(self, tool: str, arguments: Mapping[str, Any], patience: float) -> Json:
        """Return the structured answer of a tool. Raises Lost, TimedOut or Refused."""
        params = {"name": tool, "arguments": arguments}
        return content(self._request("tools/call", params, {"Mcp-Name": tool}, patience))

    def _request(self, method: str, params: Json, more: Mapping[str, str], patience: float) -> Json:
        self._asked += 1
        message: Json = {"id": self._asked, "method": method, "params": params | {"_meta": self._meta}}
        return result(self._ask(message, {"Mcp-Method": method, **more}, patience))


def await_server(port: int, patience: float) -> None:
    """Return once somebody listens there: a server that was killed comes back. Raises Lost when none does."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), patience).close()
        except OSError:
            time.sleep(_NAP)
        else:
            return
    raise Lost


def _event(answer: http.client.HTTPResponse, number: int, wire: socket.socket, deadline: float) -> Json:
    """Return the response with that id. Raises Lost when the stream ends without."""
    found: Json | None = None
    while line := answer.readline():  # to the end: the connection is for the next request
        _limit(wire, deadline)
        if line.startswith(b"data: {"):
            message = json.loads(line[6:])
            found = message if message.get("id") == number and "method" not in message else found
    if found is None:
        raise Lost
    return found


def _limit(wire: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    wire.settimeout(left)
