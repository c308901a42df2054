"""How much a model is made to read at once, and that nothing is lost by cutting it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_mailbox.attachment import COUNT_LIMIT, NAME_LIMIT, Attachment
from mcp_mailbox.delivery import Delivery, Progress, State
from mcp_mailbox.fronts import fence, render
from mcp_mailbox.message import RECIPIENT_LIMIT, SUBJECT_LIMIT, Message, Priority
from mcp_mailbox.postoffice import CLAIM_COUNT
from mcp_mailbox.store import Page, Preview, Reading
from mcp_mailbox.view.apply import preview

WAIT_BYTES = 16_000
PAGE_BYTES = 4_000
DUE = 4_102_444_800_000

# Letters of one, two, three and four bytes; what JSON escapes in two bytes and in six.
_ALPHABET = st.sampled_from('aé中🙂𞤀"\\\n\t\x01\x7f\u2028') | st.characters(exclude_categories=["Cs"])
_WORDS = st.text(_ALPHABET, max_size=40)
_LONG = st.builds(lambda word, times: word * times, st.text(_ALPHABET, min_size=1, max_size=9), st.integers(1, 4000))
BODIES = _WORDS | _LONG
SUBJECTS = st.builds(
    lambda text, times: "".join((text * times).splitlines()).replace("\0", "")[:SUBJECT_LIMIT],
    st.text(_ALPHABET, min_size=1, max_size=20),
    st.integers(0, 200),
)
NAMES = st.builds(lambda letter, size: letter * size, st.sampled_from("aé中𞤀"), st.integers(1, 64))


WORST_ATTACHED = (Attachment('"' * NAME_LIMIT, "application/" + "x" * 70, 10**8, "0" * 64),) * COUNT_LIMIT
ATTACHED = st.lists(
    st.builds(
        Attachment,
        st.sampled_from(["plan.md", '"' * NAME_LIMIT, "中" * 66]),
        st.sampled_from(["text/markdown", "application/" + "x" * 70]),
        st.just(10**8),
        st.just("0" * 64),
    ),
    max_size=COUNT_LIMIT,
).map(tuple)


def size(content: Any) -> int:
    """Return how long it is as a model reads it: all of it is a stranger's."""
    content = fence.fenced(content) if isinstance(content, dict) else content
    return len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())


@st.composite
def messages(draw: st.DrawFn, to: st.SearchStrategy[int] = st.just(1)) -> Message:  # noqa: B008 - a strategy is a value
    address = f"{draw(NAMES)}@{draw(NAMES)}"
    return Message(
        id="z" * 17,
        thread="z" * 17,
        sender=address,
        to=(address,) * draw(to),
        subject=draw(SUBJECTS),
        body=draw(BODIES),
        priority=Priority.URGENT,
        accepted_at=DUE,
        reply_to="z" * 17,
        attachments=draw(ATTACHED),
    )


def leased(message: Message) -> Delivery:
    return Delivery(message, message.id + "." + "9" * 12, Progress(State.LEASED, 99, DUE))


def reading(message: Message) -> Reading:
    """A message to oneself, of which its sender sees all there is to see."""
    done = Progress(State.REJECTED, 99, None, None, DUE, DUE, DUE, DUE, reason="r" * 500, by="somebody else")
    return Reading(message, done, tuple((address, done) for address in message.to))


def worst(count: int) -> list[Delivery]:
    name = "𞤀" * 64
    message = Message(
        "z" * 17,
        "z" * 17,
        f"{name}@{name}",
        (),
        "\x01" * 200,
        "\x01" * 5000,
        Priority.URGENT,
        DUE,
        attachments=WORST_ATTACHED,
    )
    return [leased(message)] * count


@settings(deadline=None, max_examples=60)
@given(st.lists(messages(), min_size=1, max_size=CLAIM_COUNT))
def test_a_waits_answer_is_short_and_reading_on_gives_the_rest(sent: list[Message]) -> None:
    answer = render.received([leased(message) for message in sent], "local")
    assert size(answer) <= WAIT_BYTES
    assert len(answer["messages"]) == len(sent)
    for shown, message in zip(answer["messages"], sent, strict=True):
        rest, pages = rest_of(message, shown)
        assert shown["body"] + rest == message.body
        assert pages <= 2 + 3 * size(message.body) / WAIT_BYTES


def test_ten_of_the_worst_messages_fit_into_a_waits_answer() -> None:
    answer = render.received(worst(CLAIM_COUNT), "local")
    assert size(answer) <= WAIT_BYTES
    assert len(answer["messages"]) == CLAIM_COUNT


def test_one_long_message_fills_a_waits_answer_well() -> None:
    message = Message("id", "id", "alice@default", (), "s", "word " * 10_000, Priority.NORMAL, DUE)
    assert size(render.received([leased(message)], "local")) > 0.98 * WAIT_BYTES
    assert size(render.whole(reading(message), 0, "local")) > 0.98 * WAIT_BYTES


def rest_of(message: Message, shown: dict[str, Any]) -> tuple[str, int]:
    """Read on by `more` as a model would."""
    rest = ""
    pages = 0
    while "more" in shown:
        shown = render.whole(reading(message), shown["more"], "local")
        assert size(shown) <= WAIT_BYTES
        rest += shown["body"]
        pages += 1
    return rest, pages


@settings(deadline=None, max_examples=60)
@given(messages(st.integers(1, RECIPIENT_LIMIT)))
def test_pages_of_a_message_are_short_and_put_together_they_are_its_body(message: Message) -> None:
    shown = render.whole(reading(message), 0, "local")
    assert size(shown) <= WAIT_BYTES
    rest, _ = rest_of(message, shown)
    assert shown["body"] + rest == message.body
    assert set(shown["to"]) <= set(message.to)
    assert len(shown.get("attachments", ())) == len(message.attachments), "who reads sees all names"


@settings(deadline=None, max_examples=60)
@given(st.lists(messages(), min_size=1, max_size=100), st.booleans())
def test_a_page_of_inbox_is_short_and_says_where_it_goes_on(sent: list[Message], more: bool) -> None:
    previews = [as_preview(message, f"c{number}" + "z" * 17) for number, message in enumerate(sent)]
    content = render.page(Page(tuple(previews), 10**9, more), "local")
    assert size(content) <= PAGE_BYTES
    shown = len(content["messages"])
    assert shown >= 1
    whole = shown == len(sent) and not more
    assert content.get("next") == (None if whole else previews[shown - 1].cursor)


def as_preview(message: Message, cursor: str) -> Preview:
    short = Message(
        message.id,
        message.thread,
        message.sender,
        (),
        message.subject,
        preview(message.body),
        message.priority,
        message.accepted_at,
        attachments=message.attachments,
    )
    return Preview(
        Delivery(short, message.id, Progress(State.REJECTED, 9, reason="r" * 500)), len(message.body.encode()), cursor
    )
