"""The promise about search: what a mailbox received or sent is found by its words, sender, time and thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import Progress
from mcp_mailbox.message import Message


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; what is left out asks for nothing. `thread` is any id in it, `since` a time.

    `cursor` is from the page before of the same query.
    """

    limit: int
    words: str = ""
    sender: Address | None = None
    since: int | None = None
    thread: str | None = None
    cursor: str | None = None
    oldest_first: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found: of its body a line around the first word, of its addresses some of `recipients`.

    `own` is how far it has come in the mailbox that asks, None when it was only sent from there; `to` is told of what
    was sent. `cursor` continues behind it, so that a page may be cut anywhere.
    """

    message: Message
    own: Progress | None
    recipients: int
    size: int
    cursor: str


@dataclass(frozen=True, slots=True)
class Hits:
    """Answer of `search`: a page. `next` goes on behind all that was looked at, which may be more than was found.

    `complete_until` is set while the index is being made: what was accepted later may be missing.
    """

    hits: tuple[Hit, ...]
    next: str | None = None
    complete_until: int | None = None


class SearchStore(Protocol):
    """The verb about search."""

    async def search(self, mailbox: Address, asked: Query) -> Hits:
        """Return what this mailbox received or sent, whatever became of it, and what has all the words.

        A word is letters and digits of any script; neither case nor accents count, nor English endings. Text without
        spaces (Chinese, Japanese, Thai …) is found by any neighbouring characters in it. Nothing in `words` is an
        operator.

        Costs what is shown, not what there is: where that would take long, a page has few hits or none, and `next`.
        The index can be lost: it is made anew meanwhile, `complete_until` says so, and no other verb depends on it.

        Raises Refusal(UNKNOWN_MAILBOX), (UNKNOWN_MESSAGE) for a thread of which the mailbox has nothing,
        (BAD_ARGUMENT) for words that have neither letters nor digits, or a cursor that is not of this query.
        """
        ...
