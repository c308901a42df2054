"""What `mcp-mailbox serve` may be told."""

from __future__ import annotations

import argparse

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8765


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `serve`, which is run elsewhere (`__main__`)."""
    parser.description = (
        "Serve MCP over streamable HTTP at /mcp, in the foreground, together with the agents on stdio: they share the"
        " mailboxes. A post office that was started on demand hands over and leaves."
    )
    parser.add_argument("--host", default=DEFAULT_HOST, help=f"address to listen on (default {DEFAULT_HOST})")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"default {DEFAULT_PORT}; 0 takes a free one")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate chain (PEM); serves https")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key (PEM), unless it is in the same file")
    parser.add_argument(
        "--behind-proxy",
        action="store_true",
        help="a proxy in front of this server speaks TLS: allows other addresses than this machine's own without it",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME[:PORT]",
        help="another name by which clients reach this server, as in their Host header; may be repeated",
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="URL",
        help="an origin whose web pages may call this server, such as https://example.org; may be repeated",
    )
    parser.add_argument(
        "--oauth-issuer", metavar="URL", help="take access tokens (JWT, RFC 9068) of this authorization server, too"
    )
    parser.add_argument(
        "--oauth-audience", metavar="URL", help="for whom they must be: this server, as clients know it (…/mcp)"
    )
    parser.add_argument(
        "--oauth-jwks", metavar="URL", help="where its keys are (default: where its metadata says, at its own origin)"
    )
    parser.add_argument(
        "--no-auth",
        action="store_true",
        help="let everybody in who reaches this machine's own address, as yourself: every user and every program of it",
    )
