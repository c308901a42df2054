"""Any order of attaching, failing, forgetting, crashing and restoring, against a model that is a few dictionaries.

MCP_MAILBOX_EXAMPLES sets how many stories are told (`machine.py`).
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, invariant, rule

from mcp_mailbox.attachment import Attachment
from mcp_mailbox.errors import Code, Refusal
from tests.contract.engines import ENGINES
from tests.contract.machine import StoreMachine, tell_stories
from tests.contract.post import kept
from tests.contract.promises import promise

BOXES = ["ann", "bob", "cid"]
CONTENTS = {"nothing": b"", "little": b"x" * 7, "some": b"y" * 1000, "much": b"z" * 300_000}
GRACE = 3600 * 1000

boxes = st.sampled_from(BOXES)
files = st.dictionaries(st.sampled_from(["a.txt", "b.txt"]), st.sampled_from(list(CONTENTS)), min_size=1)


@dataclass
class Said:
    """A message with attachments."""

    sender: str
    to: str
    files: dict[str, bytes]


def whole(files: dict[str, str]) -> dict[str, bytes]:
    return {name: CONTENTS[content] for name, content in files.items()}


@dataclass
class Model:
    """What a store must hold: messages by id, and contents with the time when they were kept last."""

    said: dict[str, Said] = field(default_factory=dict)
    there: dict[bytes, int] = field(default_factory=dict)

    def named(self) -> set[bytes]:
        return {content for said in self.said.values() for content in said.files.values()}


class Machine(StoreMachine):
    """The verbs as rules."""

    copies = Bundle("copies")

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.trays = AsyncExitStack()
        self.held: list[tuple[bytes, Attachment]] = []
        self.numbers = count(1)
        self.run(self.post.mailboxes(*BOXES))

    def keep(self, *contents: bytes) -> None:
        for content in contents:
            self.model.there[content] = self.now

    def drop(self, *contents: bytes) -> None:
        """Of what was kept in a tray that was given back, only what is named or held stays."""
        for content in contents:
            if content not in self.model.named() and content not in {held for held, _ in self.held}:
                self.model.there.pop(content, None)

    def put_down(self) -> None:
        """Give back all trays."""
        self.run(self.trays.aclose())
        contents = [content for content, _ in self.held]
        self.held.clear()
        self.drop(*contents)

    def teardown(self) -> None:
        self.run(self.trays.aclose())
        super().teardown()

    @rule(sender=boxes, to=boxes, files=files)
    def send(self, sender: str, to: str, files: dict[str, str]) -> None:
        sent = self.run(self.post.attach(sender, to, files=whole(files)))
        self.keep(*whole(files).values())
        self.model.said[sent.id] = Said(sender, to, whole(files))

    @rule(sender=boxes, files=files)
    def send_in_vain(self, sender: str, files: dict[str, str]) -> None:
        with pytest.raises(Refusal):
            self.run(self.post.attach(sender, "nobody", files=whole(files)))
        self.keep(*whole(files).values())
        self.drop(*whole(files).values())

    @rule(kind=st.sampled_from(list(CONTENTS)))
    def hold(self, kind: str) -> None:
        content = CONTENTS[kind]

        async def hold() -> Attachment:
            tray = await self.trays.enter_async_context(self.post.store.attaching())
            return await kept(tray, "held", content)

        self.held.append((content, self.run(hold())))
        self.keep(content)

    @rule(to=boxes)
    def send_what_is_held(self, to: str) -> None:
        if self.held:
            content, attachment = self.held[0]
            sent = self.run(self.post.send("ann", to, attachments=(attachment,)))
            self.model.said[sent.id] = Said("ann", to, {"held": content})
        self.put_down()

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        if self.model.said:
            id_ = data.draw(st.sampled_from(sorted(self.model.said)))
            self.run(self.post.engine.forget_attachments(id_))
            del self.model.said[id_]

    @rule(ms=st.sampled_from([1, GRACE // 2, GRACE]))
    def time_passes(self, ms: int) -> None:
        self.clock.step(ms)

    @rule()
    def reopen(self) -> None:
        self.put_down()
        self.run(self.post.reopen())

    @rule()
    def crash(self) -> None:
        trays, self.trays = self.trays, AsyncExitStack()
        before = self.post.store
        self.run(self.post.engine.crash())
        self.held.clear()
        self.run(trays.aclose())  # in the store that is no more
        assert before is not self.post.store

    @rule(target=copies)
    def back_up(self) -> tuple[Path, Model]:
        file = self.directory / f"backup {next(self.numbers)}"
        self.run(self.post.store.backup(file, lambda *_: None))
        return file, deepcopy(self.model)

    @rule(copy=copies, lost=st.booleans())
    def restore(self, copy: tuple[Path, Model], lost: bool) -> None:
        file, model = copy
        self.put_down()
        self.run(self.post.engine.close())
        self.run(self.post.engine.restore(file, lost=lost))
        there = {} if lost else self.model.there
        self.model = Model(deepcopy(model.said), there)
        for content in self.model.named():
            there.setdefault(content, 0)  # when it was put back is the file system's business

    @rule()
    def collect(self) -> None:
        self.run(self.post.store.collect())
        named, held = self.model.named(), {content for content, _ in self.held}
        self.model.there = {
            content: at
            for content, at in self.model.there.items()
            if content in named or content in held or self.now - at < GRACE
        }
        assert self.post.store.attached_bytes == sum(map(len, self.model.there))

    @invariant()
    def what_is_attached_is_the_models(self) -> None:
        for id_, said in self.model.said.items():
            for box in BOXES:
                for name in ("a.txt", "b.txt", "held"):
                    try:
                        found: object = self.run(self.post.attached(box, id_, name))
                    except Refusal as refusal:
                        found = refusal.code
                    if box not in {said.sender, said.to}:
                        assert found is Code.UNKNOWN_MESSAGE
                    else:
                        assert found == said.files.get(name, Code.UNKNOWN_ATTACHMENT)


@promise("attached-whole", "attached-own", "attached-durable", "attached-unsent", "attached-collected", "restore-same")
@pytest.mark.parametrize("engine", ENGINES)
def test_any_order_of_attaching_and_letting_go_does_what_the_model_does(engine: str) -> None:
    tell_stories(Machine, engine, steps=20)
