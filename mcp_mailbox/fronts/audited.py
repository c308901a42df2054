"""The counter of a post office that writes down what is asked (`audit`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from mcp_mailbox.addresses import Address
from mcp_mailbox.audit import DONE, Entry, Trail
from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts.verbs import Asking, Here, Json
from mcp_mailbox.message import Draft
from mcp_mailbox.postoffice import Call, PostOffice
from mcp_mailbox.postoffice.attachments import Given
from mcp_mailbox.postoffice.waits import Parked

CANCELLED = "cancelled"
FAILED = "failed"
_IDS = 100
_READER = 16
_NOTHING: Mapping[str, Any] = {}

T = TypeVar("T")


class Audited(Here):
    """The same, with a line for each call."""

    def __init__(self, office: PostOffice, trail: Trail) -> None:
        super().__init__(office)
        self._trail = trail

    async def ask(self, asking: Asking) -> Json:
        """See `Counter`."""
        return await self._noted(asking.verb, asking.call, super().ask(asking), lambda answer: answer)

    async def send_all(self, sends: Sequence[tuple[Asking, Draft]]) -> Sequence[Json | Refusal]:
        """See `Here`."""
        said = await super().send_all(sends)
        for (asking, _), each in zip(sends, said, strict=True):
            outcome, answer = (each.code.value, _NOTHING) if isinstance(each, Refusal) else (DONE, each)
            self._note(asking.verb, asking.call, outcome, answer)
        return said

    async def ensure(self, call: Call, name: str) -> Address | None:
        """See `Counter`."""
        return await self._noted("open", replace(call, mailbox=name), super().ensure(call, name), lambda _: _NOTHING)

    async def content(self, call: Call, id: str, name: str) -> Given:  # noqa: A002
        """See `Counter`."""
        return await self._noted("attachment", call, super().content(call, id, name), lambda _: {"id": id})

    async def _noted(self, verb: str, call: Call, doing: Awaitable[T], told: Callable[[T], Mapping[str, Any]]) -> T:
        outcome: str | None = CANCELLED
        said = _NOTHING
        try:
            answer = await doing
            outcome, said = DONE, told(answer)
        except Refusal as refusal:
            outcome = refusal.code.value
            raise
        except Exception:
            outcome = FAILED
            raise
        except Parked:
            outcome = None  # it is asked again
            raise
        finally:
            if outcome is not None:
                self._note(verb, call, outcome, said)
        return answer

    def _note(self, verb: str, call: Call, outcome: str, answer: Mapping[str, Any]) -> None:
        self._trail.note(entry(self.office, verb, call, outcome, answer))


def entry(office: PostOffice, verb: str, call: Call, outcome: str, answer: Mapping[str, Any]) -> Entry:
    """Return the line for a call. Of what was asked nothing is taken over: of the answer, ids and addresses."""
    caller = call.caller
    own = office.mailboxes.acted_for(caller, call.mailbox)
    way = caller.how.partition(",")[0].lower()
    mailbox = str(own) if own is not None else ""
    reader = caller.reader[:_READER]
    return Entry(verb, outcome, way, caller.principal, caller.credential, reader, mailbox, _ids(answer), _to(answer))


def _ids(answer: Mapping[str, Any]) -> Sequence[str]:
    listed = [each["id"] for each in answer.get("messages", ()) if "id" in each]
    own = [answer["id"]] if isinstance(answer.get("id"), str) else []
    return [*own, *listed, *answer.get("settled", ())][:_IDS]


def _to(answer: Mapping[str, Any]) -> Sequence[str]:
    to = answer.get("to", ())
    return [each["address"] for each in to if isinstance(each, dict) and "state" in each and "address" in each][:_IDS]
