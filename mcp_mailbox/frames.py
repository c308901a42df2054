"""The frames between a relay and its post office, as a table.

Rules how a line on that wire is spelled. Refuses to know what a line from the host *means* (no JSON here), who
sends which frame when (`relay.py`, `office.py`) and where the other side is found (`rendezvous.py`).

A frame is one line: its kind (one byte), then the fields, separated by single spaces, then a line feed. The last
field is the rest of the line, so a JSON-RPC message travels as it is, uncopied and unparsed.

The relay imports this module before the host sees its first answer: constants and three small functions, no imports.
"""

from __future__ import annotations

LINE_LIMIT = 8 * 1024 * 1024  # bytes of one line from the host; the relay drops longer ones and says so
HEAD_LIMIT = 1024  # first bytes of a dropped line that still travel, so that its request can be answered
COMMAND_LIMIT = 4 * 1024 * 1024  # bytes of a command: a body of 256 KiB, each byte as six characters, as hex
TAIL_LIMIT = 1024  # and its last: some hosts write the id there

# The first frame of a connection says who calls: a relay, or the command line.
HELLO = b"h"
STATUS = b"s"
QUIT = b"q"  # its words: why, and `drain` when a successor waits already
COMMAND = b"c"  # its word: a JSON object as hex, the answer is one as it is

# office → command line, before the answer to a COMMAND that takes long
PROGRESS = b"p"  # the line is a JSON object

# command line → office, behind the answer to a COMMAND, when it has done with it what it asked for: WRITTEN

# relay → office
MESSAGE = b"m"
REPLAY = b"r"
OVERSIZED = b"o"
WRITTEN = b"w"
END = b"e"
RANG = b"g"

# office → relay (HELLO as well)
ANSWER = b"a"
NOTIFY = b"n"
KEEP = b"k"
FORGET = b"f"
BYE = b"b"
REFUSE = b"x"
NOTE = b"t"  # what the next office is to know of this host: the line comes back in the next hello
RING = b"d"  # only to a relay whose hello names that kind of bell

# What the relay sends once the hello is out, and how its fields read. (kind: (has a serial, has a line))
FROM_RELAY: dict[bytes, tuple[bool, bool]] = {
    MESSAGE: (True, True),
    REPLAY: (True, True),
    OVERSIZED: (True, True),  # the line is `<length> <head and tail>`
    WRITTEN: (True, False),
    END: (False, False),
    RANG: (True, True),  # the line is `rung`, or `failed <reason>`; the serial is that of the RING; OPENCODE: below
}
FROM_OFFICE: dict[bytes, tuple[bool, bool]] = {
    HELLO: (False, True),  # the line is the office's version
    ANSWER: (True, True),
    NOTIFY: (False, True),
    KEEP: (True, False),
    FORGET: (True, False),
    BYE: (False, True),  # the line is the reason
    REFUSE: (False, True),  # the line is `<code> <hint>`
    NOTE: (False, True),
    RING: (True, True),  # the line is `<kind> <what to tell that kind of host>`; serials are the office's own
}

# Kinds of bells that a relay may have.
CLAUDE = "claude"  # its line goes as it is to the socket that Claude Code gives its servers, behind the token
CODEX = "codex"  # its line is `<thread> <text>`, for `codex queue`
OPENCODE = "opencode"  # its line is `<method> <path> <body>`, for its HTTP server; it says `rung <status> <body>`

# Why an office says bye. After `drain` a newer one is about to take over, so the relay comes back at once.
DRAIN = "drain"
STOP = "stop"
IDLE = "idle"


def frame(kind: bytes, serial: int = 0, line: bytes = b"") -> bytes:
    """Spell a frame; serials count from 1, so 0 means that the kind has none."""
    if serial:
        return b"%b %d %b\n" % (kind, serial, line) if line else b"%b %d\n" % (kind, serial)
    return b"%b %b\n" % (kind, line) if line else kind + b"\n"


def hello(fields: dict[str, str]) -> bytes:
    """Spell a hello. Values are hex: an environment variable may hold anything, a line feed included."""
    pairs = [f"{key}={value.encode('utf-8', 'surrogateescape').hex()}" for key, value in fields.items()]
    return frame(HELLO, line=" ".join(pairs).encode())


def read_hello(line: bytes) -> dict[str, str]:
    """Read the fields of a hello; raises ValueError when it is none."""
    pairs = (field.partition("=") for field in line.decode("ascii").split())
    return {key: bytes.fromhex(value).decode("utf-8", "surrogateescape") for key, _, value in pairs}
