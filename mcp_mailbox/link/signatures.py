"""What a machine signs of a message, and what another finds out from that. Keys are Ed25519 (RFC 8032).

A signature is a JWS in its compact form (RFC 7515, RFC 8037) over a manifest: who, to whom, when, and SHA-256 of what
is said. The message itself is not in it. The header carries the public key, so that it can be learnt with a first
message; whose key it is, is the keyring's business. Nothing here is asked of a hub, and nothing that it says is
believed.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from mcp_mailbox.addresses import Address
from mcp_mailbox.message import SIGNATURE_LIMIT

Json = dict[str, Any]

_ALGORITHM = "EdDSA"
_TYPE = "mailbox+jws"
_VERSION = 1
_JWS = PyJWS(algorithms=[_ALGORITHM])
EARLY = 5 * 60 * 1000
"""ms by which two machines' clocks may differ."""


File = tuple[str, str]
"""An attachment, as a signature is of it: its name, and SHA-256 of what is in it, in hex digits."""


class Mismatch(Exception):  # noqa: N818 - what was found out, not an error of ours
    """The signature is none, or is of something else; the text says what."""


@dataclass(frozen=True, slots=True)
class Said:
    """What is signed. `once` is a request's: no two messages of a key have the same. `at` is ms since 1970 UTC."""

    once: str
    sender: Address
    to: Sequence[Address]
    """Everybody that it was addressed to, channels too."""
    subject: str
    body: str
    format: str
    at: int
    reply_to: str | None = None
    """The hub's id of what it answers."""
    files: Sequence[File] = ()
    """What is attached, in its order."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a signature that is good for its key says, by which key."""

    fingerprint: str
    once: str
    sender: str
    to: frozenset[str]
    subject: str
    body: str
    format: str
    at: int
    reply_to: str | None
    files: Sequence[str] = ()

    def is_to(self, address: Address) -> bool:
        """Whether it was addressed to them."""
        return _recipient(self.once, address) in self.to

    def check(self, sender: Address, subject: str, body: str, kind: str) -> None:
        """Raise Mismatch unless this is what was signed."""
        if self.sender != sender.compared:
            raise Mismatch("it is another sender's")
        if self.body != _hash(body) or self.format != kind:
            raise Mismatch("the body is not what was signed")
        if self.subject != _hash(subject):
            raise Mismatch("the subject is not what was signed")

    def check_files(self, files: Sequence[File]) -> None:
        """Raise Mismatch unless this, and nothing else, was attached to what was signed."""
        if [_file(each) for each in files] != list(self.files):
            raise Mismatch("what is attached is not what was signed")


def new_key() -> str:
    """Return a new private key as JWK (RFC 8037 section 2), JSON."""
    return json.dumps(OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True), sort_keys=True)


class Key:
    """A private key."""

    def __init__(self, text: str) -> None:
        """Read it as `new_key` wrote it. Raises ValueError."""
        try:
            key = OKPAlgorithm.from_jwk(text)
        except PyJWTError as error:
            raise ValueError(str(error)) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("it is no private key of Ed25519")  # noqa: TRY004 - a file's content, not an argument
        self._key = key
        self._public: Json = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
        self.fingerprint = fingerprint(self._public)

    def sign(self, said: Said) -> str:
        """Return the signature. The same is said by the same signature, however often."""
        manifest = {
            "v": _VERSION,
            "once": said.once,
            "from": said.sender.compared,
            "to": sorted({_recipient(said.once, each) for each in said.to}),
            "subject": _hash(said.subject),
            "body": _hash(said.body),
            "format": said.format,
            "at": said.at,
            **({"reply_to": said.reply_to} if said.reply_to is not None else {}),
            **({"files": [_file(each) for each in said.files]} if said.files else {}),
        }
        payload = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
        return _JWS.encode(payload, self._key, _ALGORITHM, {"typ": _TYPE, "jwk": self._public})


def fingerprint(jwk: Mapping[str, Any]) -> str:
    """Return what a person may compare: the key's thumbprint (RFC 7638, RFC 8037 section 2), 43 characters."""
    members = {name: jwk[name] for name in ("crv", "kty", "x")}
    return _based(hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest())


def opened(jws: object) -> Manifest:
    """Return what a signature says that is good for the key in it. Raises Mismatch. Whose key it is, is not asked."""
    if not isinstance(jws, str) or len(jws) > SIGNATURE_LIMIT:
        raise Mismatch("it is no JWS")
    try:
        jwk = _JWS.get_unverified_header(jws)["jwk"]
        key = OKPAlgorithm.from_jwk({name: jwk[name] for name in ("kty", "crv", "x")})
        if not isinstance(key, Ed25519PublicKey):
            raise Mismatch("its key is none of Ed25519")
        found = _JWS.decode_complete(jws, key, algorithms=[_ALGORITHM])
        if found["header"].get("typ") != _TYPE:
            raise Mismatch("it is of another kind")
        return _manifest(json.loads(found["payload"]), fingerprint(jwk))
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Mismatch("it is not good for its own key") from None


def _manifest(said: Mapping[str, Any], of: str) -> Manifest:
    if said["v"] != _VERSION or not isinstance(said["at"], int):
        raise Mismatch("it is of a newer kind")
    texts = [str(said[name]) for name in ("once", "from", "subject", "body", "format")]
    once, sender, subject, body, kind = texts
    reply_to = str(said["reply_to"]) if said.get("reply_to") is not None else None
    files = [str(each) for each in said.get("files", ())]
    return Manifest(of, once, sender, _texts(said["to"]), subject, body, kind, said["at"], reply_to, files)


def _texts(several: Iterable[object]) -> frozenset[str]:
    return frozenset(map(str, several))


def _recipient(once: str, address: Address) -> str:
    """Return what stands for a recipient: who is one can tell, and nobody learns who else was meant."""
    return _based(hashlib.sha256(f"{once}\0{address.compared}".encode()).digest())[:22]


def _file(file: File) -> str:
    """Return what stands for an attachment: no name has a NUL."""
    return _hash("\0".join(file))


def _hash(text: str) -> str:
    return _based(hashlib.sha256(text.encode()).digest())


def _based(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
