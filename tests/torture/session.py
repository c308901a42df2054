"""A conversation with the server, however it is held: what a client may ask of it, and how that may end.

Needs nothing of the SDK that the server is built on, and a host that can be killed by the dozen has to start in no
time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

Json = dict[str, Any]


class Lost(Exception):  # noqa: N818 - what happened, in the words of a history
    """Whom we spoke to has gone: what became of the request is unknown."""


class TimedOut(Exception):  # noqa: N818
    """No answer in time: the request was cancelled, what became of it is unknown."""


class Refused(Exception):  # noqa: N818
    """The tool answered that it did not do it. `code` "rpc" stands for an error of the protocol."""

    def __init__(self, code: str, said: str) -> None:
        super().__init__(f"{code}: {said}")
        self.code = code


class Session(Protocol):
    """One client's conversation, one request at a time."""

    @property
    def pid(self) -> int:
        """The process whose end ends it: a relay, or the client itself."""

    def greet(self, name: str, patience: float) -> None:
        """Shake hands. Raises Lost, TimedOut or Refused."""

    def call(self, tool: str, arguments: Mapping[str, Any], patience: float) -> Json:
        """Return the structured answer of a tool. Raises Lost, TimedOut or Refused."""

    def close(self) -> None:
        """Leave as a host does."""


def result(message: Mapping[str, Any]) -> Json:
    """Return the result that a response carries. Raises Refused."""
    if "error" in message:
        raise Refused("rpc", json.dumps(message["error"]))
    found: Json = message["result"]
    return found


def content(answer: Mapping[str, Any]) -> Json:
    """Return what a tool's result says. Raises Refused."""
    found: Json = answer["structuredContent"]
    if answer.get("isError"):
        raise Refused(found["error"], str(found.get("message")))
    return found
