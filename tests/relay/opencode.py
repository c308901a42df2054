"""OpenCode's own HTTP server, as far as a doorbell needs it: sessions, which of them are busy, prompts.

It listens in this process, which is the one that starts the relays of a test. Shapes as seen with OpenCode 1.18.33.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .world import DEADLINE

Json = dict[str, Any]


class OpenCode:
    """One that runs, with a port. Its sessions are there to be changed."""

    def __init__(self) -> None:
        self.sessions: dict[str, Json] = {}
        self.busy: set[str] = set()
        self.asked: list[str] = []
        self.authorizations: list[str | None] = []
        self._prompts: queue.Queue[tuple[str, Json]] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """What it gives to the servers that it starts."""
        return {"OPENCODE": "1", "OPENCODE_PID": str(os.getpid())}

    def session(self, id: str, directory: object, updated: int, **more: Any) -> None:  # noqa: A002 - their word
        time = {"created": 1, "updated": updated, **more.pop("time", {})}
        self.sessions[id] = {"id": id, "directory": str(directory), "time": time, **more}

    def prompted(self) -> tuple[str, Json]:
        """Return the next session that was prompted, and with what."""
        return self._prompts.get(timeout=DEADLINE)

    def was_not_prompted(self) -> bool:
        return self._prompts.empty()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: list[str], query: dict[str, list[str]], body: str) -> tuple[int, Any]:
        match path:
            case ["session"]:
                found = [each for each in self.sessions.values() if not each.get("parentID")]
                found.sort(key=lambda each: -each["time"]["updated"])
                return 200, found[: int(query["limit"][0])]
            case ["session", "status"]:
                return 200, {each: {"type": "busy"} for each in self.busy}
            case ["session", id] if id in self.sessions:
                return 200, self.sessions[id]
            case ["session", id, "prompt_async"] if id in self.sessions:
                self._prompts.put((id, json.loads(body)))
                return 204, None
        return 404, {"name": "NotFoundError"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        opencode = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                opencode.authorizations.append(self.headers.get("authorization"))
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                status, said = opencode._answer(url.path.strip("/").split("/"), parse_qs(url.query), body)
                data = b"" if said is None else json.dumps(said, indent=1).encode()
                self.send_response(status)
                if said is not None:
                    self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                opencode.asked.append(f"{self.command} {self.path}")

            do_POST = do_GET  # noqa: N815 - the base class names it

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class named it
                """Stay silent."""

        return Handler
