"""What `serve` must have before a running post office makes way for it: a bound socket, TLS, the owner's token file.

Knows how the server is called from without. What is served behind it is `wiring`'s.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mcp_mailbox import config, files, rendezvous
from mcp_mailbox.errors import Code, Refusal

TOKEN_FILE = "token"  # noqa: S105 - its name
_EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - no address of anybody's


@dataclass(frozen=True, slots=True)
class FrontDoor:
    """A socket for HTTP that is bound, and what `serve` was told of it."""

    settings: config.Serving
    listener: socket.socket
    tls: ssl.SSLContext | None
    token_file: Path | None
    """Where the token of the machine's own user stands; None when no token is needed."""

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        scheme = "https" if self.settings.certificate else "http"
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"{scheme}://{host}:{self.port}"

    @property
    def known_as(self) -> str | None:
        """Scheme, host and port for those whom it is for; None when they have no name for it."""
        settings = self.settings
        name = next(iter(settings.hosts), None)
        if name is not None and settings.proxied:
            return f"https://{name}"
        if name is not None and not settings.local:
            port = f":{self.port}" if name.endswith("]") or ":" not in name else ""
            return f"https://{name}{port}"  # without TLS no other address is served
        return self.origin if settings.host not in _EVERYWHERE else None

    @property
    def name(self) -> str:
        """How whoever joins it may call it."""
        return (self.known_as or self.origin).partition("://")[2]

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self.listener.getsockname()[1])


@contextmanager
def front_door(home: str, settings: config.Serving) -> Iterator[FrontDoor]:
    """Take what a server needs first: one that cannot have it must not drive the running post office out.

    Raises Refusal, and rendezvous.Refused for a home that cannot be used.
    """
    from mcp_mailbox.fronts.http import listener  # noqa: PLC0415 - hosts on stdio need no HTTP

    tls = listener.load_tls(settings.certificate, settings.key) if settings.certificate else None
    with closing(listener.bind(settings.host, settings.port)) as bound:
        yield FrontDoor(settings, bound, tls, _token_file(home) if settings.tokens else None)


def _token_file(home: str) -> Path:
    """Return the file, which can be read and written, made when it is not there. Raises Refusal."""
    rendezvous.prepare_home(home)
    path = Path(home) / TOKEN_FILE
    try:
        os.close(files.open_private(str(path), os.O_RDWR))
    except OSError as error:
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"{path} cannot be used: {error.strerror}.",
            "Your own token stands there: move what is there away; it is made anew.",
        ) from error
    return path
