"""An authorization server on this machine: keys that it makes, tokens that it signs, and what it was asked."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "https://mail.example.org/mcp"
Json = dict[str, Any]


class Key:
    """A key pair and its id."""

    def __init__(self, kid: str, kind: str = "RSA", bits: int = 2048) -> None:
        self.kid = kid
        self.private: PrivateKeyTypes
        if kind == "RSA":
            self.private = rsa.generate_private_key(65537, bits)
            self.algorithm, made = "RS256", RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        else:
            self.private = ec.generate_private_key(ec.SECP256R1())
            self.algorithm, made = "ES256", ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        self.public: Json = {**made, "kid": kid, "use": "sig"}


class Authority:
    """`document` is its key set; `asked` the paths that were asked for."""

    def __init__(self) -> None:
        self.first, self.second = Key("one"), Key("two", "EC")
        self.keys = [self.first.public]
        self.document: bytes | None = None
        self.status = 200
        self.asked: list[str] = []
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                authority.asked.append(self.path)
                found = authority.answer(self.path)
                self.send_response(authority.status if found is not None else 404)
                if authority.status == 302:
                    self.send_header("location", f"{authority.url}/elsewhere")
                self.send_header("content-length", str(len(found or b"")))
                self.end_headers()
                self.wfile.write(found or b"")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # closing it waits for what it answers
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, path: str) -> bytes | None:
        if path == "/.well-known/oauth-authorization-server":
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        if path in {"/keys", "/elsewhere"}:
            return self.document if self.document is not None else json.dumps({"keys": self.keys}).encode()
        return None

    @contextmanager
    def running(self) -> Iterator[Authority]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def claims(self, **changed: object) -> Json:
        now = int(time.time())
        usual = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "ann",
            "client_id": "laptop",
            "iat": now,
            "exp": now + 300,
            "jti": "1",
            "scope": "mailbox:read mailbox:send mailbox:create",
        }
        return {name: value for name, value in (usual | changed).items() if value is not None}

    def token(self, key: Key | None = None, header: Json | None = None, **changed: object) -> str:
        key = key or self.first
        said: Json = {"typ": "at+jwt", "kid": key.kid} | (header or {})
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(self.claims(**changed), key.private, key.algorithm, said)  # type: ignore[arg-type]


def part(content: object) -> str:
    """Spell a part of a token by hand."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
