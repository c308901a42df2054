"""What the environment says: the settings of a host, and of the post office (see also `rendezvous`).

MCP_MAILBOX_HOME      where everything is kept; default ~/.mcp-mailbox
MCP_MAILBOX_SPACE     the space of bare names; default "default"
MCP_MAILBOX_ADDRESS   the mailbox of this host, opened before the first call
MCP_MAILBOX_DOORBELL  off: this host is not rung when mail comes (read by `rendezvous`)
MCP_MAILBOX_QUIET     hours in which only urgent mail rings this host, in local time: 22:00-07:00
MCP_MAILBOX_WAKES     how often one thread may ring this host in an hour; default 60
MCP_MAILBOX_CHANNELS  on: this host is rung by Claude Code's channels, for which it needs a flag at its start
MCP_MAILBOX_LEASE     seconds that a reader has for a message; default 600
MCP_MAILBOX_KEEP_DAYS days that settled mail is kept; default 365, 0 for ever
MCP_MAILBOX_IDLE      seconds without hosts after which the post office leaves; default 600
MCP_MAILBOX_ATTACH    directories whose files this host may attach, separated as in PATH; default none

MCP_MAILBOX_HUB       the address of the hub that keeps this machine's mail, https://mail.example.org; default none
MCP_MAILBOX_TOKEN     the token for it; default what `mcp-mailbox join` has kept
MCP_MAILBOX_HUB_INSECURE  1: reach it without TLS beyond this machine, in a network that is private itself
MCP_MAILBOX_SIGN      on: this machine signs what it sends (docs/security.md)

MCP_MAILBOX_ATTACH_FILE_MIB    MiB of one attachment; default 10
MCP_MAILBOX_ATTACH_TOTAL_MIB   MiB of all attachments of a message; default 25
MCP_MAILBOX_THREAD_BUDGET  answers of a principal in one thread an hour; 0 for any number (`budgets` has the defaults)
MCP_MAILBOX_PAIR_BUDGET    messages of one mailbox to another an hour; likewise
MCP_MAILBOX_HOPS           answers to answers, each within ten minutes of the other; likewise
MCP_MAILBOX_AUDIT          on or off: whether calls are audited; default on for `serve` beyond this machine, else off

Of `serve`, for who comes over HTTP; 0 for any number (`quotas` has the defaults):
MCP_MAILBOX_RATE           requests of a principal a second, on average over a minute
MCP_MAILBOX_WAITERS        waits of a principal under way
MCP_MAILBOX_SPACE_MIB      MiB that a space keeps
MCP_MAILBOX_MAILBOXES      mailboxes of a principal
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mcp_mailbox import addresses, attachment, audit, budgets, loopguard, machine, quotas
from mcp_mailbox.attachment import MIB
from mcp_mailbox.doorbell import Quiet, Terms
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.postoffice import DAY, KEEP_TERM, LEASE_TERM
from mcp_mailbox.postoffice.roots import VARIABLE as ATTACH

SPACE = "MCP_MAILBOX_SPACE"
ADDRESS = "MCP_MAILBOX_ADDRESS"
QUIET = "MCP_MAILBOX_QUIET"
WAKES = "MCP_MAILBOX_WAKES"
CHANNELS = "MCP_MAILBOX_CHANNELS"
LEASE = "MCP_MAILBOX_LEASE"
KEEP = "MCP_MAILBOX_KEEP_DAYS"
STORE_FILE = "mail.db"
"""The store, in the home directory."""
_MOST = 1_000_000
"""Of a budget."""
_FILE_LETTERS = 12
_LARGEST = 100.0
"""MiB of attachments: they are read whole."""
_LONGEST = 7 * 24 * 3600.0
_MOST_DAYS = 36_500
_NAME = r"[a-z0-9_.-]+|\[[0-9a-f:.]+\]"
_HOST = re.compile(rf"({_NAME})(:[0-9]{{1,5}})?", re.IGNORECASE | re.ASCII)
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://({_NAME})(?::([0-9]{{1,5}}))?/?", re.ASCII)
_USUAL_PORTS = {"http": "80", "https": "443"}
_SHOWN = 60
_MOST_WAKES = 999_999


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What one host's registration says of itself."""

    space: str
    address: str | None
    attach: str = ""
    """Directories whose files it may attach (`postoffice.roots`)."""
    channels: bool = False
    """Whether it is rung by notifications of a channel."""


@dataclass(frozen=True, slots=True)
class OAuth:
    """Whose access tokens are good, beside tokens of ours; URLs."""

    issuer: str
    audience: str
    jwks: str | None
    """Where the issuer's keys are; None: where its metadata says."""


@dataclass(frozen=True, slots=True)
class Serving:
    """Where `mcp-mailbox serve` listens, and whom it lets in."""

    host: str
    port: int
    certificate: str | None
    key: str | None
    hosts: tuple[str, ...]
    """How else clients call it, as in their Host header; the first is how it is registered."""
    proxied: bool
    """Whether a proxy in front of it speaks TLS."""
    origins: frozenset[str]
    tokens: bool
    """Whether a token is needed."""
    oauth: OAuth | None = None

    @property
    def local(self) -> bool:
        """Whether it listens for this machine alone."""
        return machine.is_loopback(self.host)

    @property
    def beyond(self) -> bool:
        """Whether others than this machine's programs are to reach it."""
        return not self.local or self.proxied


def serving(
    *,
    host: str,
    port: int,
    tls_cert: str | None,
    tls_key: str | None,
    behind_proxy: bool,
    allow_host: Sequence[str],
    allow_origin: Sequence[str],
    no_auth: bool,
    oauth_issuer: str | None = None,
    oauth_audience: str | None = None,
    oauth_jwks: str | None = None,
) -> Serving:
    """Check what `serve` was told.

    Raises Refusal(BAD_ARGUMENT) for what would let strangers in, or let them read along.
    """
    if not 0 <= port <= 65535:  # noqa: PLR2004
        raise Refusal(Code.BAD_ARGUMENT, f"{port} is no port.", "Ports are 1 to 65535; 0 takes a free one.")
    if tls_key and not tls_cert:
        raise Refusal(Code.BAD_ARGUMENT, "--tls-key was given alone.", "Give --tls-cert too.")
    if not machine.is_loopback(host):
        if no_auth:
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"Without tokens anybody who reaches {host} could read all mail.",
                "Leave out --no-auth, or listen on 127.0.0.1.",
            )
        if not tls_cert and not behind_proxy:
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"Without TLS anybody on the way to {host} could read tokens and mail.",
                "Give --tls-cert and --tls-key, or --behind-proxy when a proxy in front of it speaks TLS.",
            )
    return Serving(
        host.strip("[]"),
        port,
        tls_cert,
        tls_key,
        tuple(map(_host, allow_host)),
        behind_proxy,
        frozenset(map(_origin, allow_origin)),
        not no_auth,
        _oauth(oauth_issuer, oauth_audience, oauth_jwks, no_auth=no_auth),
    )


def _oauth(issuer: str | None, audience: str | None, jwks: str | None, *, no_auth: bool) -> OAuth | None:
    """Check whose access tokens are to be taken. Raises Refusal(BAD_ARGUMENT)."""
    given = {"--oauth-issuer": issuer, "--oauth-audience": audience, "--oauth-jwks": jwks}
    for name, url in given.items():
        if url is not None and not _is_endpoint(url):
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"{name} {url[:_SHOWN]!a} cannot be used.",
                "Give https://host/path, without user, query and fragment; http:// for this machine's own alone.",
            )
    if issuer is not None and audience is not None and not no_auth:
        return OAuth(issuer, audience, jwks)
    if not any(given.values()):
        return None
    if no_auth:
        raise Refusal(
            Code.BAD_ARGUMENT, "--no-auth lets everybody in, and --oauth-issuer does not.", "Leave one of them out."
        )
    hint = "--oauth-audience is this server's own URL, as clients know it: https://mail.example.org/mcp."
    raise Refusal(Code.BAD_ARGUMENT, "--oauth-issuer and --oauth-audience belong together.", hint)


def _is_endpoint(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not url.isascii() or not url.isprintable() or {*url} & {" ", '"', "\\", "?", "#"} or parts.username is not None:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and machine.is_loopback(host)))


def _host(name: str) -> str:
    """Return it as it stands in a Host header. Raises Refusal for what cannot stand there."""
    if not _HOST.fullmatch(name):
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"--allow-host {name[:_SHOWN]!a} never stands in a Host header.",
            "Give a name as clients write it, mail.example.org or mail.example.org:8443, without https:// and path.",
        )
    return name.lower()


def _origin(text: str) -> str:
    """Return it as browsers write it. Raises Refusal for what they never write."""
    found = _ORIGIN.fullmatch(text.lower())
    if not found:
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"--allow-origin {text[:_SHOWN]!a} is no origin.",
            "Give scheme and host, and the port unless it is the usual one: https://example.org.",
        )
    scheme, host, port = found.groups()
    return f"{scheme}://{host}" + (f":{port}" if port and port != _USUAL_PORTS.get(scheme) else "")


def host_settings(env: Mapping[str, str], space: str = addresses.DEFAULT_SPACE) -> HostSettings:
    """Read a host's settings; `space` is for one that names none.

    Raises Refusal(BAD_NAME) for a space that cannot be, BAD_ARGUMENT for no switch.
    """
    space = env.get(SPACE) or space
    try:
        addresses.check_name(space, "space")
    except Refusal as refusal:
        raise Refusal(refusal.code, f"{SPACE}: {refusal.problem}", refusal.hint) from None
    channels = (env.get(CHANNELS) or "off").lower()
    if channels not in {"on", "off"}:
        raise Refusal(Code.BAD_ARGUMENT, f"{CHANNELS} is {channels[:20]!a}.", "Set it to on, or leave it out.")
    return HostSettings(space, env.get(ADDRESS) or None, env.get(ATTACH) or "", channels == "on")


def bell_terms(env: Mapping[str, str]) -> Terms:
    """Read when a host may be rung. Raises Refusal(BAD_ARGUMENT)."""
    wakes = _whole(env, WAKES, Terms().wakes, _MOST_WAKES, "Set it to a number of rings, or leave it out.")
    try:
        quiet = Quiet.parse(env[QUIET]) if env.get(QUIET) else None
    except Refusal as refusal:
        raise Refusal(refusal.code, f"{QUIET}: {refusal.problem}", refusal.hint) from None
    return Terms(quiet, wakes)


@dataclass(frozen=True, slots=True)
class OfficeSettings:
    """What all hosts share; times in ms."""

    lease: int
    """The lease's term."""
    keep: int
    """How long settled mail is kept; 0 for ever."""
    limits: budgets.Limits
    quotas: quotas.Quotas
    """Nobody over the local socket is counted."""
    attachments: attachment.Limits
    audited: bool | None
    """Whether calls are written down; None where nobody has said."""


def office_settings(env: Mapping[str, str]) -> OfficeSettings:
    """Read the settings of the post office. Raises Refusal(BAD_ARGUMENT) for what is no number.

    The time after which it leaves is checked here, and read by `office.py`, which knows nothing of refusals.
    """
    _seconds(env, machine.IDLE_VARIABLE, 0.0)
    limits = budgets.Limits(
        _count(env, loopguard.THREAD_VARIABLE, budgets.THREAD_BUDGET),
        _count(env, loopguard.PAIR_VARIABLE, budgets.PAIR_BUDGET),
        _count(env, loopguard.HOPS_VARIABLE, budgets.HOPS),
    )
    usual = attachment.Limits()
    each = _mib(env, machine.FILE_MIB_VARIABLE, usual.each)
    together = _mib(env, machine.TOTAL_MIB_VARIABLE, max(usual.together, each))
    attachments = attachment.Limits(min(each, together), together)
    forever = f"Set it to whole days, at most {_MOST_DAYS}, 0 to keep mail for ever, or leave it out."
    days = _whole(env, KEEP, KEEP_TERM // DAY, _MOST_DAYS, forever, digits=_SHOWN - 1)
    lease = int(_seconds(env, LEASE, LEASE_TERM / 1000) * 1000)
    return OfficeSettings(lease, days * DAY, limits, _quotas(env), attachments, _audited(env))


def _audited(env: Mapping[str, str]) -> bool | None:
    said = env.get(audit.VARIABLE, "").lower()
    if said not in {"", "on", "off"}:
        raise Refusal(Code.BAD_ARGUMENT, f"{audit.VARIABLE} is {said[:20]!a}.", "Set it to on or off, or leave it out.")
    return said == "on" if said else None


def _quotas(env: Mapping[str, str]) -> quotas.Quotas:
    return quotas.Quotas(
        _count(env, quotas.RATE_VARIABLE, quotas.RATE),
        _count(env, quotas.WAITERS_VARIABLE, quotas.WAITERS),
        _count(env, quotas.SPACE_VARIABLE, quotas.SPACE // MIB) * MIB,
        _count(env, quotas.MAILBOXES_VARIABLE, quotas.MAILBOXES),
    )


@dataclass(frozen=True, slots=True)
class HubSettings:
    """The hub that keeps this machine's mail."""

    url: str
    token: str = field(repr=False)
    space: str = addresses.DEFAULT_SPACE
    """The space of bare names for hosts that say none: the one that this machine was invited to."""
    certificates: str | None = None
    """A file with the authorities that it joined by; None: the system's, or what SSL_CERT_FILE names."""
    joined: str = ""
    """Tells which hub it joined, and for whom it speaks there; empty when variables say so."""
    sign: bool = False
    """Whether this machine signs what it sends."""
    proxy: str | None = field(default=None, repr=False)
    """The proxy by which the hub is reached."""

    @property
    def outbox(self) -> str:
        """The file, in the home directory, for what is on its way: one for each hub, and for whom one speaks there.

        What waits for one must not go to another, nor in somebody else's name; it goes on when that one is joined
        again.
        """
        if not self.joined:
            return "edge.db"
        return f"edge-{hashlib.sha256(self.joined.encode()).hexdigest()[:_FILE_LETTERS]}.db"


def hub_settings(env: Mapping[str, str], kept: Mapping[str, object] | None) -> HubSettings | None:
    """Read which hub this machine is an edge of, None for none. `kept` is what joining it has left in the home.

    Raises Refusal(BAD_ARGUMENT) for an address that cannot be, or a token that would travel in the clear.
    """
    url = env.get(machine.HUB_VARIABLE) or str((kept or {}).get("url") or "")
    if not url:
        return None
    joined = kept if kept is not None and machine.is_meant(kept, env) else {}
    token = str(joined.get("token") or "") if joined else env.get(machine.HUB_TOKEN_VARIABLE)
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and not parts.username
    except ValueError:
        good = False
    if not good:
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"{machine.HUB_VARIABLE} is {url[:_SHOWN]!a}.",
            "Set it to the hub's address, https://mail.example.org.",
        )
    if (
        parts.scheme == "http"
        and not machine.is_loopback(parts.hostname or "")
        and not (env.get(machine.INSECURE_VARIABLE) or joined.get("insecure") is True)
    ):
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"Over {url[:_SHOWN]} anybody on the way could read token and mail.",
            f"Use https, or set {machine.INSECURE_VARIABLE}=1 where the network itself is private.",
        )
    if not token:
        hint = f"Set {machine.HUB_TOKEN_VARIABLE} too, or run `mcp-mailbox join` with an invitation."
        raise Refusal(Code.BAD_ARGUMENT, f"There is no token for the hub {url[:_SHOWN]}.", hint)
    sign = (env.get(machine.SIGN_VARIABLE) or ("on" if joined.get("sign") is True else "off")).lower()
    if sign not in {"on", "off"}:
        problem = f"{machine.SIGN_VARIABLE} is {sign[:20]!a}."
        raise Refusal(Code.BAD_ARGUMENT, problem, "Set it to on, or leave it out.")
    return HubSettings(
        url.rstrip("/").removesuffix("/mcp"),
        token,
        str(joined.get("space") or addresses.DEFAULT_SPACE),
        str(joined.get("certificates") or "") or None if not env.get("SSL_CERT_FILE") else None,
        f"{joined.get('url')} {joined.get('principal')}" if joined else "",
        sign == "on",
        _proxy(env.get(machine.PROXY_VARIABLE) or str(joined.get("proxy") or "")),
    )


def _proxy(text: str) -> str | None:
    """Read the address of a proxy. It may have a password, which is told to nobody."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if text and not good:
        hint = "Set it to an address like http://proxy:3128, or leave it out."
        raise Refusal(Code.BAD_ARGUMENT, f"{machine.PROXY_VARIABLE} is none that can be used.", hint)
    return text or None


def _count(env: Mapping[str, str], name: str, default: int) -> int:
    """Read a number of things, 0 for no limit."""
    return _whole(
        env, name, default, _MOST, f"Set it to a number up to {_MOST}, 0 for none, or leave it out for {default}."
    )


def _whole(env: Mapping[str, str], name: str, default: int, most: int, hint: str, digits: int = 0) -> int:
    """Read a whole number of at most so many digits: as many as `most` has, unless they are given."""
    text = env.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= (digits or len(str(most))) and int(text) <= most):
        raise Refusal(Code.BAD_ARGUMENT, f"{name} is {text[:20]!a}.", hint)
    return int(text)


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    return _number(env, name, default, "seconds", _LONGEST)


def _mib(env: Mapping[str, str], name: str, default: int) -> int:
    """Read a size in MiB as bytes."""
    return int(_number(env, name, default / MIB, "MiB", _LARGEST) * MIB)


def _number(env: Mapping[str, str], name: str, default: float, unit: str, most: float) -> float:
    text = env.get(name)
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number <= most:
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"{name} is {text[:20]!a}.",
            f"Set it to {unit} between 0 and {most:.0f}, or leave it out.",
        )
    return number
