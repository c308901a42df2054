"""What clients are told of where access tokens are to be had, and what these may allow (RFC 9728)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mcp_mailbox.credentials import Scope

SCOPES: Mapping[str, Scope] = {
    "mailbox:read": Scope.READ,
    "mailbox:send": Scope.SEND,
    "mailbox:create": Scope.CREATE,
}
WELL_KNOWN = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True, slots=True)
class Resource:
    """What clients are told of where to get a token (RFC 9728)."""

    audience: str
    issuer: str
    path: str
    """Of what they want to reach."""

    @property
    def url(self) -> str:
        """Where that stands, as seen by them (section 3.1)."""
        parts = urlsplit(self.audience)
        return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path.rstrip('/')}"

    @property
    def places(self) -> frozenset[str]:
        """The paths at which it is served."""
        return frozenset({WELL_KNOWN, WELL_KNOWN + self.path, urlsplit(self.url).path})

    @property
    def document(self) -> bytes:
        """What stands there."""
        return json.dumps(
            {
                "resource": self.audience,
                "authorization_servers": [self.issuer],
                "scopes_supported": list(SCOPES),
                "bearer_methods_supported": ["header"],
                "resource_name": "mcp-mailbox",
            }
        ).encode()
