"""What a scripted model knows and what it can answer, in no host's wire format.

A script holds no state: hosts send the whole conversation with each request, and may send it twice, so the
step to take is read from the conversation itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Exchange:
    """A tool call of the model and what the host then showed it."""

    tool: str
    result: str

    @property
    def value(self) -> dict[str, Any]:
        """The result as JSON; empty where it is none, as a refusal's text is.

        Codex writes lines of its own before a result, so reading starts at the first brace.
        """
        _, brace, rest = self.result.partition("{")
        try:
            value, _ = json.JSONDecoder().raw_decode(brace + rest)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def timed_out(self) -> bool:
        return self.value.get("timed_out") is True


@dataclass(frozen=True)
class Conversation:
    exchanges: tuple[Exchange, ...] = ()
    prompt: str = ""
    """What was said to the model last; empty when that was a tool's result."""

    def last(self, tool: str) -> Exchange:
        for exchange in reversed(self.exchanges):
            if exchange.tool == tool:
                return exchange
        raise LookupError(f"the model was shown no result of {tool}")

    def calls(self, *but: str) -> list[str]:
        """Our tools that the model called, without those that are named and waits that brought nothing."""
        return [each.tool for each in self.exchanges if each.tool not in but and not each.timed_out]

    def mail(self) -> dict[str, Any]:
        """The newest message that a wait brought."""
        for exchange in reversed(self.exchanges):
            messages = exchange.value.get("messages")
            if exchange.tool == "wait_for_message" and messages:
                found: dict[str, Any] = messages[0]
                return found
        raise LookupError("no wait_for_message brought a message")


@dataclass(frozen=True)
class Call:
    """The model calls one of our tools."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Say:
    """The model ends its turn."""

    text: str


Move = Call | Say
Step = Callable[[Conversation], Move]
Script = Callable[[Conversation], Move]


def call(tool: str, **arguments: Any) -> Step:
    """Make a step that needs nothing from the conversation."""
    return lambda _: Call(tool, arguments)


def acked(conversation: Conversation) -> Call:
    """Settle the newest mail: done."""
    return Call("settle", {"ids": [conversation.mail()["id"]], "outcome": "ack"})


def answered(body: str) -> Step:
    """Make the step that answers the newest mail, which acks it."""

    def step(conversation: Conversation) -> Call:
        mail = conversation.mail()
        return Call("send", {"to": mail["from"], "reply_to": mail["id"], "body": body})

    return step


def follow(*steps: Step) -> Script:
    """Play the steps in order, then end the turn.

    A wait that timed out is no step: the model asks again, as our hint tells it to.
    """

    def play(conversation: Conversation) -> Move:
        done = sum(not exchange.timed_out for exchange in conversation.exchanges)
        if done >= len(steps):
            return Say("Done.")
        try:
            return steps[done](conversation)
        except LookupError as reason:
            # The scenario's checks then show what was missing; the host must end its turn meanwhile.
            return Say(f"The script cannot go on: {reason}")

    return play
