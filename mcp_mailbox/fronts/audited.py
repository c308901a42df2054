"""The counter of a post office that writes down what is asked (`audit`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mcp_mailbox.attachment import Attachment
from mcp_mailbox.audit import DONE, Entry, Trail
from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts.verbs import Asking, Here, Json
from mcp_mailbox.postoffice import Call, PostOffice

CANCELLED = "cancelled"
FAILED = "failed"
Told = Callable[[Mapping[str, Any]], None]


class Audited(Here):
    """The same, with a line for each call."""

    def __init__(self, office: PostOffice, trail: Trail) -> None:
        super().__init__(office)
        self._trail = trail

    async def ask(self, asking: Asking) -> Json:
        """See `Counter`."""
        with self._noting(asking.verb, asking.call) as told:
            answer = await super().ask(asking)
            told(answer)
            return answer

    async def ensure(self, call: Call, name: str) -> None:
        """See `Counter`."""
        with self._noting("open", Call(call.caller, call.request, name)) as told:
            await super().ensure(call, name)
            told({})

    async def content(self, call: Call, id: str, name: str) -> tuple[Attachment, bytes]:  # noqa: A002
        """See `Counter`."""
        with self._noting("attachment", call) as told:
            found = await super().content(call, id, name)
            told({"id": id})
            return found

    @contextmanager
    def _noting(self, verb: str, call: Call) -> Iterator[Told]:
        outcome, answer = CANCELLED, None

        def told(said: Mapping[str, Any]) -> None:
            nonlocal outcome, answer
            outcome, answer = DONE, said

        try:
            yield told
        except Refusal as refusal:
            outcome = refusal.code.value
            raise
        except Exception:
            outcome = FAILED
            raise
        finally:
            self._trail.note(entry(self.office, verb, call, outcome, answer or {}))


def entry(office: PostOffice, verb: str, call: Call, outcome: str, answer: Mapping[str, Any]) -> Entry:
    """Return the line for a call. Of what was asked nothing is taken over: of the answer, ids and addresses."""
    caller = call.caller
    own = office.mailboxes.acted_for(caller, call.mailbox)
    way = caller.how.partition(",")[0].lower()
    mailbox = str(own) if own is not None else ""
    reader = caller.reader
    return Entry(verb, outcome, way, caller.principal, caller.credential, reader, mailbox, _ids(answer), _to(answer))


def _ids(answer: Mapping[str, Any]) -> Sequence[str]:
    listed = [each["id"] for each in answer.get("messages", ()) if "id" in each]
    own = [answer["id"]] if isinstance(answer.get("id"), str) else []
    return [*own, *listed, *answer.get("settled", ())]


def _to(answer: Mapping[str, Any]) -> Sequence[str]:
    to = answer.get("to", ())
    return [each["address"] for each in to if isinstance(each, dict) and "state" in each and "address" in each]
