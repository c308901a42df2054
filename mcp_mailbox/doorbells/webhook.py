"""A webhook: the pointer as JSON to a URL of the user's, signed, and to no other place than the one that was checked.

Against requests that are led astray (SSRF): the name is resolved once, each address that it has must be a public one,
the connection goes to the address that was checked, a redirect is not followed, no proxy is asked, and whatever is not
over in time is over. The standard library's client will do: none of these is a matter of a setting elsewhere either.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mcp_mailbox.doorbell import Outcome, Result
from mcp_mailbox.errors import Code, Refusal

SECONDS = 10.0
"""For all of it together, once the name is resolved."""
_LATE = "it did not answer in time"
_ANSWER = 64 * 1024
"""Bytes of an answer that are read, so that a connection ends well; nobody looks at them."""
_PORTS = {"http": 80, "https": 443}
_MADE = range(200, 300)
_OWN = (ipaddress.ip_network("fec0::/10"), ipaddress.ip_network("64:ff9b:1::/48"))
"""Networks of one's own that Python counts as global, at least in some releases: site-local (RFC 3879), local NAT64."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that was looked at: where to, and as what."""

    secure: bool
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> Target:
        """Read a URL. Raises Refusal(BAD_ARGUMENT)."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            parts, host, port = urlsplit(""), "", None
        if parts.scheme not in _PORTS or not _is_host(host) or parts.username is not None or not url.isprintable():
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"{url[:100]!a} is no URL for a webhook.",
                "Give http:// or https://, a host, and no user; the signature says who calls.",
            )
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not path.isascii() or " " in path:
            raise Refusal(Code.BAD_ARGUMENT, f"{path[:100]!a} cannot stand in a request.", "Percent-encode it.")
        return cls(parts.scheme == "https", host, port or _PORTS[parts.scheme], path)


class Webhook:
    """One URL. `secret` signs; with `private`, addresses that are not public will do."""

    kind = "webhook"

    def __init__(self, url: str, secret: bytes = b"", *, private: bool = False) -> None:
        self._target = Target.parse(url)
        self._secret = secret
        self._private = private

    def ring(self, pointer: Mapping[str, Any]) -> Result:
        """Post the pointer; what goes wrong is a result. Waits, so it is for a process of its own."""
        body = json.dumps(pointer).encode()
        try:
            address = self._address()
            status = self._post(address, body)
        except TimeoutError:  # of a step, or of all of it
            return Result(Outcome.FAILED, _LATE)
        except (OSError, http.client.HTTPException, Refusal) as error:
            return Result(Outcome.FAILED, str(error) or type(error).__name__)
        if status in _MADE:
            return Result(Outcome.RUNG)
        return Result(Outcome.FAILED, f"it answered {status}")

    def _address(self) -> str:
        """Return one address of the host, all of which were checked. Raises OSError, Refusal."""
        try:
            found = socket.getaddrinfo(self._target.host, self._target.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise OSError(f"{self._target.host}: {error.strerror}") from None
        addresses = [str(each[4][0]) for each in found]
        refused = [each for each in addresses if not (self._private or is_public(each))]
        if refused:
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"{self._target.host} is at {refused[0]}, which is no public address.",
                "--allow-private lets it be called.",
            )
        return addresses[0]

    def _post(self, address: str, body: bytes) -> int:
        now = str(int(time.time()))
        headers = {"Content-Type": "application/json", "User-Agent": "mcp-mailbox", "Connection": "close"}
        if self._secret:
            headers["Mailbox-Signature"] = f"t={now},v1={sign(self._secret, now, body)}"
        connection = _Pinned(self._target, address)
        # A time-out of the socket is one for each step, and an answer may come a byte at a time.
        limit = threading.Timer(SECONDS, connection.cut)
        limit.start()
        try:
            connection.request("POST", self._target.path, body, headers)
            answer = connection.getresponse()
            answer.read(_ANSWER)
        except (OSError, http.client.HTTPException):
            connection.check()  # then it failed since it was cut
            raise
        else:
            connection.check()
            return answer.status
        finally:
            limit.cancel()
            connection.close()


def _is_host(name: str) -> bool:
    """Tell whether a name, or an address, is one that can be asked for."""
    if not name or " " in name:
        return False
    try:
        name.encode("idna")
    except UnicodeError:  # a part of it is empty, or has more than 63 letters
        return False
    return True


def sign(secret: bytes, at: str, body: bytes) -> str:
    """Return the HMAC-SHA256 of `<time>.<body>` in hex: the time is signed too, so that a copy grows old."""
    return hmac.new(secret, at.encode() + b"." + body, hashlib.sha256).hexdigest()


def is_public(text: str) -> bool:
    """Tell whether an address is one that anybody on the Internet may be at: no loopback, no network of one's own."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        # Addresses of IPv4 in disguise: mapped, 6to4, NAT64.
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    is_own = any(address.version == each.version and address in each for each in _OWN)
    return address.is_global and not (is_own or address.is_multicast or address.is_reserved)


class _Pinned(http.client.HTTPConnection):
    """A connection to the address that was checked, whatever the host's name says by now."""

    def __init__(self, target: Target, address: str) -> None:
        super().__init__(target.host, target.port, timeout=SECONDS)
        self._address = address
        self._secure = target.secure
        self.late = False
        self.default_port = _PORTS["https" if target.secure else "http"]

    def connect(self) -> None:
        """Connect, with TLS for the name where the URL says so. Raises OSError, TimeoutError when it was cut."""
        sock = socket.create_connection((self._address, self.port), SECONDS)
        tls: ssl.SSLSocket | None = None
        if self._secure:
            context = ssl.create_default_context()
            sock = tls = context.wrap_socket(sock, server_hostname=self.host, do_handshake_on_connect=False)
        self.sock = sock
        self.check()  # `cut` found no socket before; from here on it ends the handshake, too
        if tls is not None:
            tls.do_handshake()

    def cut(self) -> None:
        """End it for whoever reads or writes it, or is about to."""
        self.late = True
        with suppress(OSError, TypeError):
            # Not by SSLSocket, which forgets first that it spoke TLS: what is written then would go out in the clear.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def check(self) -> None:
        """Raise TimeoutError when it was cut."""
        if self.late:
            raise TimeoutError(_LATE) from None
