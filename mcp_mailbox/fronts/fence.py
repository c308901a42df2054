"""The fence around what other principals wrote, in what a model reads.

    "body": "⟦mail 7f3ac2 from eve@team, another principal, verified by the hub⟧…⟦end 7f3ac2⟧"
    "subject": "⟦7f3ac2⟧…⟦end 7f3ac2⟧"

The nonce is made for the answer that it stands in, after the text was written, and is none that stands in the text: so
nothing within can end its fence, or begin one. `fence` beside the fields says it; `bare` and `stripped` take fences off
again. What is fenced is what `render` has marked as `untrusted`; what is untrusted is the domain's to say.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Callable, Mapping
from json import dumps
from typing import Any

Json = dict[str, Any]

UNTRUSTED = "untrusted"
NONCE = "fence"
"""The field that says the nonce."""
HUB, SIGNATURE, FIRST = "hub", "signature", "first signature"
"""By what a sender is verified: by the hub that set it, by a key that is known, by one that was never seen before."""
VERIFIED = frozenset({HUB, SIGNATURE, FIRST})
"""Any other word says why it is not."""
_NONCE_BYTES = 3
_PLACEHOLDER = "0" * 2 * _NONCE_BYTES
_INSIDE = ("messages", "mailboxes", "reserved", "yours", "others", "conflicts", "sent")
"""Fields with a list of objects. What mail says is never gone into: it may be JSON that looks like ours."""
_REQUEST = "request"
_QUOTED = ("subject", "preview")
_LABELLED = ("body", "preview")
_TEXTS = ("subject", "reason", "about", "status", "held", "attachment")
_LISTS = ("names", "skills")
_OF_ATTACHMENTS = "name"
_SENDER_SHOWN = 48
"""Bytes of a sender in a label; `from` has it whole."""
_WORDS = {HUB: "verified by the hub", SIGNATURE: "signed", FIRST: "signed, its key is seen for the first time"}
_FENCED = re.compile(r"⟦(?:mail )?([0-9a-f]{6})(?: [^⟦⟧]*)?⟧(.*)⟦end \1⟧", re.DOTALL)
_UNSEEN = re.compile(
    "[\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""What nobody sees: Unicode's category Cf and its default ignorable characters, but for Hangul fillers."""

Mark = Callable[[str, str], str]
"""Of a text and the label of its fence, what stands there instead."""


def fenced(answer: Json) -> Json:
    """Return the answer with a fence around each text that is untrusted, and which nonce they have."""
    texts: list[str] = []

    def gather(text: str, label: str) -> str:
        texts.append(text)
        texts.append(label)
        return text

    if NONCE in answer:  # a hub may say one, too
        answer = {name: each for name, each in answer.items() if name != NONCE}
    _marked(answer, gather)
    if not texts:
        return answer
    nonce = _nonce("\n".join(texts))
    return {NONCE: nonce, **_marked(answer, lambda text, label: _fence(nonce, text, label))}


def added(answer: Json) -> int:
    """Return by how many bytes of JSON fences would make it longer."""
    longer = 0

    def count(text: str, label: str) -> str:
        nonlocal longer
        longer += len(_fence(_PLACEHOLDER, "", label).encode())
        return text

    _marked(answer, count)
    return longer + (len(f'"{NONCE}":"{_PLACEHOLDER}",') if longer else 0)


def bare(text: str) -> str:
    """Return a text without the fence that it is in, if it is in one: what a model may give back with it."""
    found = _FENCED.fullmatch(text.strip())
    return found[2] if found else text


def stripped(answer: Json) -> Json:
    """Return an answer as it was before `fenced`."""
    nonce = answer.get(NONCE)
    if nonce is None:
        return answer
    begin = re.compile(rf"⟦(?:mail )?{re.escape(nonce)}[^⟧]*⟧")

    def strip(text: str, label: str) -> str:
        del label
        return begin.sub("", text, count=1).removesuffix(f"⟦end {nonce}⟧")

    return _marked({name: each for name, each in answer.items() if name != NONCE}, strip)


def text(content: str, sender: str, verified: str) -> tuple[str, str]:
    """Return a text that stands alone in its fence, and the nonce."""
    label = _label({"from": sender, "verified": verified})
    nonce = _nonce(f"{content}\n{label}")
    return _fence(nonce, content, label), nonce


def _marked(value: Mapping[str, Any], mark: Mark) -> Json:
    found = dict(value)
    for name in _INSIDE:
        if isinstance(value.get(name), list):
            found[name] = [_marked(each, mark) if isinstance(each, dict) else each for each in value[name]]
    if value.get("kind") == _REQUEST and isinstance(value.get("body"), dict):
        said = value["body"]  # the post office's words, and of a stranger's its subject and preview
        found["body"] = said | {name: mark(str(said[name]), "") for name in _QUOTED if name in said}
    if value.get(UNTRUSTED) is True:
        found |= _marked_fields(value, mark)
    return found


def _marked_fields(value: Mapping[str, Any], mark: Mark) -> Json:
    """Return those of an object's fields that somebody else wrote."""
    found: Json = {}
    for name in _LABELLED:
        if name in value:
            said = value[name]
            shown = said if isinstance(said, str) else dumps(said, ensure_ascii=False, separators=(",", ":"))
            found[name] = mark(shown, _label(value))
    for name in _TEXTS:
        if isinstance(value.get(name), str):
            found[name] = mark(value[name], "")
    for name in _LISTS:
        if isinstance(value.get(name), list):
            found[name] = [mark(each, "") if isinstance(each, str) else each for each in value[name]]
    if isinstance(value.get("attachments"), list):
        found["attachments"] = [
            {**each, _OF_ATTACHMENTS: mark(str(each.get(_OF_ATTACHMENTS, "")), "")}
            for each in value["attachments"]
            if isinstance(each, dict)
        ]
    return found


def _fence(nonce: str, text: str, label: str) -> str:
    return f"⟦mail {nonce} {label}⟧{text}⟦end {nonce}⟧" if label else f"⟦{nonce}⟧{text}⟦end {nonce}⟧"


def _label(message: Mapping[str, Any]) -> str:
    """Return whose words these are. Nothing of it can end a fence, whoever says it: a hub may be anybody."""
    sender = str(message.get("from", ""))
    if not sender or not all(each.isalnum() or each in "@._-#+" for each in sender):
        sender = "somebody"
    if len(sender.encode()) > _SENDER_SHOWN:
        sender = sender.encode()[:_SENDER_SHOWN].decode(errors="ignore") + "…"
    verified = _WORDS.get(str(message.get("verified")))
    if verified is None:
        return f"from {sender}, NOT VERIFIED"
    whose = "another principal" if message.get("kind") in {None, "message"} else "quoting another principal"
    return f"from {sender}, {whose}, {verified}"


def _nonce(texts: str) -> str:
    """Return one that does not stand in the texts, nor anything that reads like it."""
    folded = texts.casefold()
    if not texts.isascii():
        folded = unicodedata.normalize("NFKC", _UNSEEN.sub("", folded)).casefold()
    while True:
        nonce = secrets.token_hex(_NONCE_BYTES)
        if nonce not in folded and nonce not in texts:
            return nonce
