"""Who asks, and for what: the arguments that all verbs share."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_mailbox.credentials import ALL_SCOPES, Scope
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.postoffice.roots import Roots
from mcp_mailbox.store import Origin


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a reader, the principal that it speaks for, and the space of bare names."""

    reader: str
    principal: str
    space: str
    mailbox: str | None = None
    """The mailbox of calls that name none, where the reader's connection or credential says so."""
    binds: bool = True
    """Whether what the reader opens is its own from then on. Not so where several may share a reader's id."""
    scopes: frozenset[Scope] = ALL_SCOPES
    how: str = "stdio"
    """By which way it comes, for people."""
    several: bool = False
    """Whether other agents may have the same reader's id."""
    files: Roots | None = None
    """Which files of this machine it may give; None where it may be on another one."""
    exempt: bool = False
    """Whether quotas do not count it: the machine's own user, over the local socket."""
    credential: str = ""
    """The id of the credential that it came with; empty where none is needed."""
    within: str | None = None
    """The only space that there is for it; None for who sees all of them (`Credential.within`)."""

    def sees(self, space: str) -> bool:
        """Tell whether that space is there for it: what is in any other one answers as what is nowhere."""
        return self.within is None or space == self.within

    def must_see(self, space: str) -> None:
        """Raise Refusal(FORBIDDEN) for a space in which it may make nothing, whatever is there."""
        if not self.sees(space):
            raise Refusal(
                Code.FORBIDDEN,
                f"This token is for the space {self.within!a} alone.",
                "Leave the space out; who issued it can issue another.",
            )

    def must(self, scope: Scope) -> None:
        """Raise Refusal(FORBIDDEN) unless the credential allows it."""
        if scope not in self.scopes:
            raise Refusal(
                Code.FORBIDDEN,
                f"This token may not {scope}.",
                f"It may {', '.join(sorted(self.scopes))}; who issued it can issue another.",
            )


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a caller. `request` is repeated only when the same request is."""

    caller: Caller
    request: str
    mailbox: str | None = None
    """The `mailbox` argument: which of one's own mailboxes is meant; None for the one opened last."""

    @property
    def origin(self) -> Origin:
        """The call as the store knows it."""
        return Origin(self.caller.reader, self.request)
