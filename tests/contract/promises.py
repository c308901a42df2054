"""Every promise of `mcp_mailbox/store/`: what an engine must keep, where the promise comes from.

`test_promises.py` sees to it that each one has a test in this folder and each test here names one. To add a promise:
a line here, a sentence in store/, a test marked with `@promise("its-id")`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

DESIGN = "design.md, Semantics"
RING = "design.md, Commit, then ring"
RELAY = "design.md, Crash of the post office"
TORTURE = "torture.md"
ISSUE = "issue 2, What must hold"
SQS = "Amazon SQS, visibility timeout"
SQS_FIFO = "Amazon SQS FIFO, exactly-once processing"
AMQP = "AMQP 1.0, 3.4 delivery state"
STRIPE = "Stripe, idempotent requests"
FENCE = "M. Kleppmann, How to do distributed locking: fencing tokens"
RFC3464 = "RFC 3464; issue 6, Edge"
RFC5322 = "RFC 5322, 3.6.4 In-Reply-To and References"
RFC8265 = "RFC 8265, UsernameCasePreserved"
UTS39 = "Unicode TS 39, 4 confusable detection"
KEYSET = "Relay, cursor connections specification"
TEACH = "issue 4, Errors teach"
ARCHIVE = "issue 4, Backup, restore, export"
LANGUAGE = "issue 4, The language"
KEEPING = "issue 4, Retention; design.md, SQLite engine"
ASK = "issue 4, Contact policy; RFC 6121, 3 Managing Presence Subscriptions"
RFC5322CC = "RFC 5322, 3.6.3: others who are to receive it though it is not directed at them"
DIRECTORY = "issue 4, Directory"
XMPP = "RFC 6121, 4 Exchanging Presence Information"
RESERVE = "design.md, Reservations"
LOCKS = "Courtois, Heymans, Parnas, Concurrent control with readers and writers"
CHANNELS = "design.md, Channels; issue 4, The language"
SEARCH = "issue 4, Search"
GUARD = "design.md, Loop guard; RFC 3834, 2 when not to answer"
ATTACH = "issue 4, Attachments"
SIGN = "issue 6, Limits; RFC 7515, JSON Web Signature"
HTTP = "issue 3, Credentials from the start"
LIMITS = "issue 6, Limits"
LINK = "issue 6, Edge: what waited is forwarded in order, once"
JOIN = "issue 6, People and machines join by invitation"
BELLS = "issue 5, Doorbells"
IMAP = "RFC 3501, 2.3.2 and RFC 2177: listing changes nothing, IDLE says look again"


@dataclass(frozen=True, slots=True)
class Promise:
    """One sentence that a user may rely on."""

    sentence: str
    source: str


PROMISES: dict[str, Promise] = {
    # accept
    "durable": Promise("What a verb has answered is there after a close and after a crash.", DESIGN),
    "whole": Promise("A message arrives as it was sent, to the last character.", f"{TORTURE}, invariant 2"),
    "key-repeats": Promise("The same key and content from one sender is one message: the same id again.", STRIPE),
    "key-conflict": Promise("The same key with other content is refused, and nothing is stored.", STRIPE),
    "key-per-sender": Promise("Keys of different senders are unrelated.", DESIGN),
    "key-covers-recipients": Promise("A key covers the whole set of recipients, in any order.", DESIGN),
    "key-implicit": Promise("Without a key the request is the key.", DESIGN),
    "key-lasts": Promise("Keys survive a restart and outlive 30 days.", DESIGN),
    "key-free-after-refusal": Promise("A refused send leaves its key unused.", STRIPE),
    "recipients-apart": Promise("Each recipient has its own result; who exists gets the message, once.", DESIGN),
    "recipients-unknown": Promise("When no recipient exists the send is refused and stores nothing.", DESIGN),
    "together": Promise("What is handed in together is done in its order, each as if it came alone.", LINK),
    "sender-exists": Promise("Only a mailbox that exists can send, be read or be settled in.", DESIGN),
    "rings": Promise("Whatever becomes ready through a verb rings its mailbox, after the commit.", RING),
    "news": Promise("What is ready and new to a reader can be told of without what it says.", BELLS),
    "news-bounded": Promise("Telling of news costs the same however much waits.", BELLS),
    # claim
    "order": Promise("First delivery keeps the order per sender, mailbox and priority.", f"{TORTURE}, invariant 4"),
    "urgent-first": Promise("Urgent mail is handed out and listed first, low last.", DESIGN),
    "one-lease": Promise("A delivery has at most one live lease.", f"{TORTURE}, invariant 5; {SQS}"),
    "claim-repeats": Promise("A repeated request gets what it leased before, generation unchanged.", RELAY),
    "lease-lapses": Promise("What is not settled when its lease ends is handed out again.", SQS),
    "present-keeps": Promise("A lapsed lease goes to its own reader, to others only when that one is gone.", DESIGN),
    "claim-budget": Promise("A claim keeps to its count and its bytes; the first delivery always fits.", ISSUE),
    "wanted": Promise("A reader may ask for the mail of one sender, one thread, or both.", ISSUE),
    "wanted-reports": Promise(
        "Who asks for one sender's mail gets, when there is none, reports of what became of its own mail to that one.",
        BELLS,
    ),
    "one-reader": Promise(
        "A personal mailbox has one live reader; another one is told who, and may take over on purpose.", LANGUAGE
    ),
    "pool": Promise("Readers of a pool share its work, and none holds more than its share.", LANGUAGE),
    "give-back": Promise("What a cancelled wait had leased is ready for others at once.", ISSUE),
    "unreached": Promise("Who was handed mail that never reached it is known, also after a crash.", ISSUE),
    "attempts": Promise("An attempt counts once a lease, and only when it reached its reader.", DESIGN),
    # settle
    "fence": Promise("A handle settles its own lease, until somebody else has leased it.", f"{DESIGN}; {FENCE}"),
    "settled-stays": Promise("After an ack or a reject it is never handed out again.", f"{TORTURE}, invariant 6"),
    "settle-repeats": Promise("Repeating an outcome is no error; another outcome afterwards is.", AMQP),
    "settle-apart": Promise("Each handle has its own result.", DESIGN),
    "settle-plain": Promise("A plain id settles what no other reader holds.", DESIGN),
    "release": Promise("A released delivery is ready at once, and as old as it was.", AMQP),
    "reply-acks": Promise("A reply acks what it answers.", DESIGN),
    "reply-fenced": Promise("A reply by a stale handle is refused and stores nothing.", FENCE),
    "reply-threads": Promise("A reply stands in the thread of what it answers.", RFC5322),
    "release-later": Promise("What is released for later is handed out then, and not before.", "NATS, Nak with delay"),
    "extend": Promise("An extended lease is the same lease, and lasts as long as was asked.", f"{SQS}, change"),
    "attempts-limit": Promise(
        "After as many attempts as its mailbox allows a delivery is a dead letter.", "Amazon SQS, maxReceiveCount"
    ),
    "retry": Promise("A dead letter that is retried is handed out again, its attempts counted anew.", LANGUAGE),
    "expires": Promise("After its time to live a message is handed to nobody.", "AMQP 1.0, 3.2.1 ttl"),
    "delay": Promise("A delayed message is handed out from its time on, and not before.", "Amazon SQS, DelaySeconds"),
    "topic": Promise(
        "Of one sender's mail on one topic, a newer message replaces what nobody has seen.", "Apache Kafka, compaction"
    ),
    "cc": Promise("Who is in cc gets the message and is not rung.", RFC5322CC),
    "states": Promise("A sender can see how far each delivery has come, and since when.", LANGUAGE),
    "told": Promise(
        "A sender is told of what came to nothing, and of acks if it asked for that; of these notices nobody is told.",
        "RFC 3464; RFC 8098; RFC 5321, 4.5.5 no reports on reports",
    ),
    "overdue": Promise("A sender can list what nobody has acked for a while.", LANGUAGE),
    # look
    "look-only": Promise("Listing and reading lease nothing and change nothing.", IMAP),
    "cursor": Promise("Pages skip nothing that was there when the page before was made.", KEYSET),
    "listing-filters": Promise("A listing may show urgent mail only, or what came since a time.", ISSUE),
    "dead-letters": Promise(
        "What was rejected, expired or tried too often is kept and listed behind everything else, until it is retried"
        " or purged.",
        "Amazon SQS, dead-letter queues; AMQP 1.0, 3.4.3 rejected",
    ),
    "unread": Promise("`unread` is what a wait could hand out now, exactly.", ISSUE),
    "read": Promise("A message can be read by who received or sent it and by nobody else.", DESIGN),
    "ids-plain": Promise("An id, handle or cursor has ASCII letters, digits, `.`, `_` and `-` alone.", TEACH),
    "ids-opaque": Promise("An id, handle or cursor that this store did not make is refused.", DESIGN),
    # mailboxes
    "open-own": Promise(
        "Opening a mailbox of one's own again finds it, by any case, and updates what is given.", ISSUE
    ),
    "open-repeats": Promise("A repeated request to open gets the same answer, the unnamed one included.", ISSUE),
    "open-taken": Promise("A name that is someone else's is refused.", DESIGN),
    "open-letter": Promise("A chosen name is kept to the letter.", RFC8265),
    "open-confusable": Promise("A name that looks like an existing one is refused.", UTS39),
    "open-unnamed": Promise("Without a name one gets a readable, unused one.", ISSUE),
    "bound": Promise("A reader is bound to the mailbox that it opened last.", RELAY),
    "directory": Promise("An owner's addresses are found by prefix; a mistyped one by what it resembles.", ISSUE),
    "unbound": Promise("A reader that several share is not bound to what one of them opens.", HTTP),
    # principals
    "contact": Promise("Who may write to a mailbox is what it says; an answer always may.", HTTP),
    "ask-holds": Promise(
        "What a stranger sends first to a mailbox that asks first is kept and waits: nobody is handed, shown or counted"
        " it as mail, and a second one is refused.",
        ASK,
    ),
    "ask-told": Promise("Its owner is told once who asks, since when that one is known, and what it wants.", ASK),
    "ask-consent": Promise(
        "Whom the owner lets in writes as if the mailbox were open; one mailbox, not all of its principal's.", ASK
    ),
    "ask-decline": Promise("Who is declined is told, and refused from then on; the owner's last word counts.", ASK),
    "ask-lapse": Promise("A request that nobody answers ends by itself; its sender is told, and may ask again.", ASK),
    "ask-policy": Promise(
        "What is held is stored once the mailbox admits its sender, and stays held if it closes.", ASK
    ),
    "contact-default": Promise("A new mailbox asks first.", JOIN),
    "theirs-unseen": Promise("What is somebody else's is as if it did not exist.", HTTP),
    "token-kept": Promise("A credential is found by the digest of its token, and by nothing else.", HTTP),
    "token-revoked": Promise("A revoked credential stays revoked.", HTTP),
    "token-rotated": Promise("A new secret takes the old one's place in one step.", HTTP),
    "token-within": Promise(
        "Where one space is all that there is, what is in any other answers as what is nowhere.", JOIN
    ),
    # invitations
    "invite-once": Promise(
        "An invitation is redeemed for one token, by whoever comes first; who comes later gets nothing.", JOIN
    ),
    "invite-repeats": Promise("The same code and token again get the same answer: the first may be lost.", JOIN),
    "invite-ends": Promise("A code that has expired or was revoked is as one that nobody has made.", JOIN),
    "invite-kept": Promise("Invitations, and for what they were redeemed, outlive a crash and a restore.", JOIN),
    "invite-bounded": Promise("So many invitations are open and no more; what ended long ago goes.", JOIN),
    # the loop guard
    "guard-loops": Promise(
        "What goes round in circles is refused within minutes, by its chain, thread or pair.", GUARD
    ),
    "guard-honest": Promise("Much work, and a long conversation with pauses, are no loops.", GUARD),
    "guard-told": Promise(
        "The refusal says which budget, how much it is, when there is room again and how to raise it.", GUARD
    ),
    "guard-first": Promise(
        "A refusal stores and spends nothing; what was accepted before is answered, not refused.", GUARD
    ),
    "guard-apart": Promise("What a principal answers in a thread is counted apart from what others do.", GUARD),
    "guard-notices": Promise("What the postmaster writes is not counted.", GUARD),
    "guard-others": Promise(
        "Whoever a refused answer was for, and takes part in its thread, is told who was refused, by which limit, until"
        " when; nobody else is, and nobody of an answer to such a report.",
        GUARD,
    ),
    "guard-others-once": Promise(
        "It is told once a thread, a principal and an hour, also after a crash, and of a pair's budget in one thread.",
        GUARD,
    ),
    "guard-others-quiet": Promise("It wakes who waits, is of low priority, and adds no hop to a chain.", GUARD),
    "guard-restart": Promise("Budgets may be forgotten, and are then whole; chains are kept.", GUARD),
    "guard-off": Promise("A budget of 0 is none.", GUARD),
    # archive
    "backup-whole": Promise("A backup has every verb that was answered before it was asked for.", ARCHIVE),
    "backup-apart": Promise("A backup never touches a file that is there, and leaves none that is half.", ARCHIVE),
    "restore-same": Promise("A restored store is as it was; ids, handles and cursors of then are good.", ARCHIVE),
    "restore-never-again": Promise("What was given out after the backup names nothing after its restore.", ARCHIVE),
    "restore-revoked": Promise("What was revoked stays so when an older backup is restored.", ARCHIVE),
    "restore-held": Promise("Who holds names when a store is replaced goes on holding them.", ARCHIVE),
    "mail-all": Promise("All mail of a mailbox is told in order of acceptance, once, whatever became of it.", ARCHIVE),
    "mail-follow": Promise("Who goes on from the place of a page is told all that came since, once.", ARCHIVE),
    "mail-channel": Promise(
        "What a channel keeps is told in the order in which it was published, to every mailbox that could join it.",
        ARCHIVE,
    ),
    "mail-thread": Promise("The mail of one thread is told alone.", ARCHIVE),
    # retention
    "keep-settled": Promise("Mail that was settled long enough ago, in all its mailboxes, goes for good.", KEEPING),
    "keep-unsettled": Promise("What is not settled stays, and so does a dead letter that is listed.", KEEPING),
    "keep-thread": Promise("A thread whose first message is gone is one thread still, under the same id.", KEEPING),
    "keep-room": Promise("The room of what is gone is given back.", KEEPING),
    # reservations
    "reserve-durable": Promise("What is reserved is held, by whom and until when, also after a crash.", RESERVE),
    "reserve-one": Promise("What meets is held by one mailbox, or by several that all share it.", LOCKS),
    "reserve-told": Promise("All names of a call are reserved, or none, and each that is in the way is told.", RESERVE),
    "reserve-own": Promise("One is never in one's own way; reserving again extends, and never shortens.", RESERVE),
    "reserve-lapses": Promise("A reservation whose time has come is as if it had never been made.", RESERVE),
    "reserve-release": Promise("A mailbox releases what it holds itself, and nothing else.", RESERVE),
    "reserve-repeats": Promise("A request repeated has one effect and the same answer; a refused one is new.", DESIGN),
    "reserve-space": Promise("Reservations of two spaces never meet.", RESERVE),
    "reserve-bounded": Promise("A mailbox and a space hold so many names and no more.", RESERVE),
    # directory
    "find-words": Promise(
        "Found is who has, for each word, a word that begins so, in name, about or skills; case and accents apart.",
        DIRECTORY,
    ),
    "find-skill": Promise("A skill finds who has exactly that one, case and accents apart.", DIRECTORY),
    "find-current": Promise("What a mailbox says of itself now is what it is found by, also after a crash.", DIRECTORY),
    "find-pages": Promise("Pages are in the order of space and name, and skip nothing and nobody twice.", KEYSET),
    "find-allowed": Promise("Of others only those are found to whom one may write; the rest does not exist.", HTTP),
    "find-spaces": Promise("A search stays in its space, or goes through those where one has a mailbox.", DIRECTORY),
    "find-unread": Promise("Of one's own mailboxes it is told how much waits there, of others' it is not.", DIRECTORY),
    "find-many": Promise("However many have some of the words, who has all of them is found.", DIRECTORY),
    "status": Promise("What an owner says of itself is told until its time is over, or it is taken back.", XMPP),
    "seen": Promise("When somebody was last at a mailbox is kept.", XMPP),
    # search
    "search-words": Promise(
        "A mailbox finds what it received or sent by all of its words, whatever became of it, newest first.", SEARCH
    ),
    "search-fresh": Promise("What was accepted before a search is found by it, or the search says that not.", SEARCH),
    "search-own": Promise("Nobody finds what it may not read, whatever stands in a query or a body.", SEARCH),
    "search-filters": Promise("A search may ask for one sender, one thread, and what came since a time.", SEARCH),
    "search-thread": Promise("A thread is listed from its beginning, by any id in it.", SEARCH),
    # channels
    "channel-members": Promise("A channel message reaches every member at send time.", f"{TORTURE}, invariant 9"),
    "channel-once": Promise("It is one message, and comes to each of them once; not to whoever sent it.", CHANNELS),
    "channel-intervals": Promise("What was published before one joined or after one has left does not come.", CHANNELS),
    "channel-all": Promise("A new mailbox is a member of its space's #all, and may leave.", CHANNELS),
    "channel-all-closed": Promise("A closed mailbox is a member of #all only when it has joined.", CHANNELS),
    "channel-all-known": Promise(
        "Who asks first hears in #all whom it takes mail from, and everybody once it has joined on purpose.", JOIN
    ),
    "channel-mixed": Promise("Channels and mailboxes may be recipients of one message, each with its result.", DESIGN),
    "channel-space": Promise("A channel is there for those who have a mailbox in its space, for nobody else.", HTTP),
    "channel-names": Promise("Channels have the names that mailboxes may have; who joins a new one makes it.", RFC8265),
    "channel-listed": Promise(
        "The channels of a space are listed, with members and the last message's time.", CHANNELS
    ),
    "channel-bounded": Promise(
        "A mailbox is a member of so many channels, a principal makes so many, and no more.", CHANNELS
    ),
    "channel-flood": Promise("Who looks sees what was published before, however much others publish then.", CHANNELS),
    "channel-repeats": Promise("A repeated request to join or leave has one effect and the same answer.", DESIGN),
    "channel-durable": Promise("Memberships and what is due to them outlive a crash.", DESIGN),
    "channel-quiet": Promise("Nobody is told what became of mail to a channel, by receipt or report.", CHANNELS),
    "channel-states": Promise("A publisher can see how many members have come how far.", LANGUAGE),
    "channel-replies": Promise(
        "A reply to it joins its thread, acks one's own delivery, goes where it says.", CHANNELS
    ),
    "channel-options": Promise(
        "Time to live, delay and topic mean in a channel what they mean in a mailbox.", CHANNELS
    ),
    "channel-wanted": Promise("A reader may ask for the mail of one channel.", CHANNELS),
    "channel-rings": Promise("What is published is told after the commit, with who published it.", RING),
    "channel-pool": Promise("A pool that is a member shares what is published.", LANGUAGE),
    "channel-replay": Promise(
        "Who joins may have what was published before; what was delivered is never delivered again.",
        "design.md, Channels; Apache Kafka, consumer offsets",
    ),
    "channel-history": Promise("A channel is read back by all who could join it; members search it.", CHANNELS),
    "channel-archive": Promise("What a channel delivered is among all mail of a mailbox.", ARCHIVE),
    "channel-keeps": Promise(
        "A channel keeps so many messages, so long, so many bytes; what is delivered stays.", CHANNELS
    ),
    "channel-skipped": Promise("What a channel kept no more before a member read it is told to it, once.", CHANNELS),
    # attachments
    "attached-whole": Promise("What is attached arrives under its name as it was kept, to the last byte.", ATTACH),
    "attached-durable": Promise("What an accepted message has attached is there after a crash.", ATTACH),
    "attached-own": Promise("Who may read a message reads what is attached to it, and nobody else does.", DESIGN),
    "attached-once": Promise("The same content is kept once, however often it is sent.", ATTACH),
    "attached-key": Promise("A key covers the names and the contents of what is attached.", STRIPE),
    "attached-limit": Promise("Of a content that is larger than it may be nothing is kept.", ATTACH),
    "attached-unsent": Promise("Of a send that came to nothing no content stays, unless somebody has sent it.", ATTACH),
    "attached-collected": Promise(
        "A content that no message names goes away after a while; one that is named, about to be, or was a moment ago"
        " does not.",
        ATTACH,
    ),
    # quotas
    "room-bounded": Promise("A space keeps at most so many bytes; a message too many leaves nothing.", LIMITS),
    "room-counted": Promise("What a space keeps is what was sent from it and not removed, after a crash, too.", LIMITS),
    "mailboxes-bounded": Promise("An owner has at most so many mailboxes, and opens those it has.", LIMITS),
    "report-once": Promise("What is told of a request is told once, however often, and rings.", RFC3464),
    # whose words they are
    "signed": Promise(
        "A signature is handed on as it came, with the message alone; the same content under another is the same.", SIGN
    ),
    "written": Promise(
        "A message that has waited elsewhere says when it was written; its terms and the guard count from then.",
        RELAY,
    ),
    "whose": Promise("Of a message is told whose the sender is; of a notice, whether it quotes somebody else.", SIGN),
    "answered": Promise("What a request without a key was answered can be asked.", RELAY),
    # time
    "due": Promise("`due` tells where leases ran out and when the next one will.", DESIGN),
    "time-forward": Promise("The store's time never runs backwards, and never stands still.", DESIGN),
    "check": Promise("A sound store says so.", f"{TORTURE}, invariant 12"),
}


def promise(*ids: str) -> pytest.MarkDecorator:
    """Mark which promises a test is the test of."""
    return pytest.mark.promise(*ids)
