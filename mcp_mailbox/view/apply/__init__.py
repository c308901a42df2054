"""The appliers: each writes what one decision means. They run inside a transaction that the engine holds.

An applier checks nothing. A module a topic; callers know them all as `apply`.
"""

from mcp_mailbox.view.apply.channels import (
    NewChannel,
    advance,
    count_members,
    create_channel,
    deliver,
    join,
    keep,
    leave_channel,
    skip,
    supersede,
    trim,
)
from mcp_mailbox.view.apply.contacts import NewRequest, ask, let_in, note_let_in, place, turn_away
from mcp_mailbox.view.apply.credentials import (
    forget_invitations,
    grant,
    invite,
    redeem,
    regrant,
    replace_invitations,
    replace_tokens,
    revoke,
    uninvite,
)
from mcp_mailbox.view.apply.deliveries import (
    Key,
    extend,
    give_back,
    lease,
    purge,
    release,
    revive,
    ring,
    settle,
    show,
    surface,
)
from mcp_mailbox.view.apply.mailboxes import (
    NewMailbox,
    bind_reader,
    create_mailbox,
    describe_mailbox,
    forget_readers,
    list_mailbox,
    note_seen,
    occupy,
    say_status,
)
from mcp_mailbox.view.apply.messages import (
    ATTACHED,
    FLAGS,
    LATE,
    QUOTES,
    SIGNED,
    NewMessage,
    checksum,
    forget_message,
    preview,
    store_message,
)
from mcp_mailbox.view.apply.reservations import Holding, hold, let_go, replace_reservations
from mcp_mailbox.view.apply.upkeep import forget_keys, go_on, note_time, note_told, remember

__all__ = [
    "ATTACHED", "FLAGS", "LATE", "QUOTES", "SIGNED", "Holding", "Key", "NewChannel", "NewMailbox", "NewMessage",
    "NewRequest",
    "advance", "ask", "bind_reader", "checksum", "count_members", "create_channel", "create_mailbox", "deliver",
    "describe_mailbox", "extend", "forget_invitations", "forget_keys", "forget_message", "forget_readers", "give_back",
    "go_on", "grant", "hold", "invite", "join", "keep", "lease", "leave_channel", "let_go", "let_in", "list_mailbox",
    "note_let_in", "note_seen", "note_time", "note_told", "occupy", "place", "preview", "purge", "redeem", "regrant",
    "release", "remember", "replace_invitations", "replace_reservations", "replace_tokens", "revive", "revoke", "ring",
    "say_status", "settle", "show", "skip", "store_message", "supersede", "surface", "trim", "turn_away", "uninvite",
]  # fmt: skip
