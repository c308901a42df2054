"""The post office: the verbs, and every rule of the domain.

Fronts call these and translate; engines keep what these decide. How a request came, what a model gets to see and how
mail lies on disk are not known here.

A caller is a reader (durable: a relay's id) that speaks for a principal in a space. The mailbox that it opened last
is its own; naming another one of its principal's selects that for one call.
"""

from mcp_mailbox.postoffice.callers import Call, Caller
from mcp_mailbox.postoffice.handed import Handed
from mcp_mailbox.postoffice.office import CLAIM_COUNT, LEASE_TERM, SETTLE_LIMIT, PostOffice
from mcp_mailbox.postoffice.retention import DAY, KEEP_TERM
from mcp_mailbox.postoffice.roots import Roots

__all__ = [
    "CLAIM_COUNT",
    "DAY",
    "KEEP_TERM",
    "LEASE_TERM",
    "SETTLE_LIMIT",
    "Call",
    "Caller",
    "Handed",
    "PostOffice",
    "Roots",
]
