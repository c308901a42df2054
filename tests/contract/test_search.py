"""Search: who finds what, by which words, in which order."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_mailbox.delivery import Outcome, State
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.message import Format, Kind
from mcp_mailbox.store import Hits, Query
from tests.contract.post import Post, at
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio


async def search(
    post: Post, mailbox: str, words: str = "", *, sender: str | None = None, limit: int = 100, **rest: Any
) -> Hits:
    query = Query(limit, words, at(sender) if sender else None, **rest)
    return await post.store.search(at(mailbox), query)


async def found(post: Post, mailbox: str, words: str = "", **rest: Any) -> list[str]:
    """Return what is found, as far as it is shown."""
    answer = await search(post, mailbox, words, **rest)
    assert answer.complete_until is None
    return [hit.message.body for hit in answer.hits]


async def refused(post: Post, mailbox: str, words: str = "", **rest: Any) -> Code:
    with pytest.raises(Refusal) as refusal:
        await search(post, mailbox, words, **rest)
    assert refusal.value.hint
    return refusal.value.code


@promise("search-words")
async def test_mail_is_found_by_all_of_its_words_newest_first(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "deploy of api failed", "deploy of web is done", "api: failed to deploy again")
    await post.send("ann", "bob", body="in the subject", subject="Deploy")
    assert await found(post, "bob", "deploy failed") == ["api: failed to deploy again", "deploy of api failed"]
    assert await found(post, "bob", "deploy") == [
        "in the subject",
        "api: failed to deploy again",
        "deploy of web is done",
        "deploy of api failed",
    ]
    assert await found(post, "bob", "deploy nothing") == []


@promise("search-words")
async def test_what_was_sent_is_found_too_and_by_all_who_got_it(post: Post) -> None:
    await post.mailboxes("ann", "bob", "cid", "dan")
    await post.send("ann", "bob", "cid", body="status", cc=["dan"])
    for mailbox in ("ann", "bob", "cid", "dan"):
        [hit] = (await search(post, mailbox, "status")).hits
        assert (hit.own is None) == (mailbox == "ann")
        assert hit.message.to == (("bob@default", "cid@default", "dan@default") if mailbox == "ann" else ())
    await post.send("bob", "bob", body="a note to myself")
    [hit] = (await search(post, "bob", "note")).hits
    assert hit.own is not None
    assert hit.recipients == 1


@promise("search-words")
@pytest.mark.parametrize("outcome", [Outcome.ACK, Outcome.REJECT, Outcome.RELEASE, None])
async def test_it_is_found_whatever_became_of_it(post: Post, outcome: Outcome | None) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob", body="hello")
    delivery = await post.claim_one("bob")
    if outcome:
        await post.settle("bob", delivery.handle, outcome=outcome)
    [hit] = [hit for hit in (await search(post, "bob", "hello")).hits if hit.message.kind is Kind.MESSAGE]
    assert hit.own == await post.read("bob", hit.message.id)


@promise("search-words")
async def test_what_was_replaced_expired_or_is_put_off_is_found_as_what_it_is(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob", body="word one", topic="t")
    await post.send("ann", "bob", body="word two", topic="t")
    await post.send("ann", "bob", body="word three", ttl=1000)
    await post.send("ann", "bob", body="word four", delay=5000)
    post.clock.step(1000)
    await post.store.sweep(0, ())
    states = {hit.message.body: hit.own for hit in (await search(post, "bob", "word")).hits}
    assert {body: own.state for body, own in states.items() if own} == {
        "word one": State.REPLACED,
        "word two": State.STORED,
        "word three": State.EXPIRED,
        "word four": State.STORED,
    }


@promise("search-words")
async def test_what_the_postmaster_told_is_found_by_its_words(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob", body="hello", subject="zebra")
    delivery = await post.claim_one("bob")
    await post.settle("bob", delivery.handle, outcome=Outcome.REJECT, reason="wrong quagga")
    kinds = [hit.message.kind for hit in (await search(post, "ann", "quagga")).hits]
    assert kinds == [Kind.REPORT]


@promise("search-fresh")
async def test_what_was_accepted_before_a_search_is_found_by_it(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    for number in range(20):
        await post.send("ann", "bob", body=f"number{number}")
        assert await found(post, "bob", f"number{number}") == [f"number{number}"]


@promise("search-fresh", "durable")
async def test_it_is_found_after_a_close_and_after_a_crash(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob", body="one")
    assert await found(post, "bob", "one") == ["one"]
    await post.reopen()
    await post.send("ann", "bob", body="one more")
    assert await found(post, "bob", "one") == ["one more", "one"]
    await post.engine.crash()
    assert await found(post, "bob", "one") == ["one more", "one"]


@promise("search-filters")
async def test_one_sender_one_thread_and_a_time_may_be_asked_for_with_words_or_without(post: Post) -> None:
    await post.mailboxes("ann", "bob", "cid")
    first = await post.send("ann", "bob", body="plan A")
    post.clock.step(1000)
    await post.send("cid", "bob", body="plan B")
    answer = await post.send("bob", "ann", body="answer to plan A", reply_to=first.id)
    noon = post.store.clock.now() + 1
    post.clock.step(1000)
    await post.send("ann", "bob", body="plan C")
    assert await found(post, "bob", "plan", sender="ANN") == ["plan C", "plan A"]
    assert await found(post, "bob", "plan", sender="bob") == ["answer to plan A"]
    assert await found(post, "bob", sender="cid") == ["plan B"]
    assert await found(post, "bob", "plan", since=noon) == ["plan C"]
    assert await found(post, "bob", "plan", since=noon + 10_000) == []
    assert await found(post, "bob", "plan", since=-5, sender="cid") == ["plan B"]
    for thread in (first.id, answer.id):
        assert await found(post, "bob", "plan", thread=thread) == ["answer to plan A", "plan A"]
    assert await found(post, "bob", "plan", thread=first.id, sender="ann") == ["plan A"]
    assert await found(post, "bob", "plan", sender="nobody-there") == []


@promise("search-thread")
async def test_a_thread_is_listed_from_its_beginning_by_any_id_in_it_and_only_what_is_ones_own(post: Post) -> None:
    await post.mailboxes("ann", "bob", "cid")
    first = await post.send("ann", "bob", body="1")
    second = await post.send("bob", "ann", body="2", reply_to=first.id)
    await post.send("ann", "bob", body="another")
    await post.send("ann", "bob", "cid", body="3", reply_to=second.id)
    fourth = await post.send("bob", "cid", body="4", reply_to=first.id)
    for thread in (first.id, second.id, fourth.id):
        assert await found(post, "bob", thread=thread, oldest_first=True) == ["1", "2", "3", "4"]
    assert await found(post, "ann", thread=first.id, oldest_first=True) == ["1", "2", "3"]
    assert await found(post, "cid", thread=fourth.id, oldest_first=True) == ["3", "4"]
    page = await search(post, "bob", thread=first.id, oldest_first=True, limit=3)
    assert page.next is not None
    assert await found(post, "bob", thread=first.id, oldest_first=True, cursor=page.next) == ["4"]


@promise("search-thread", "ids-opaque")
async def test_a_thread_of_which_the_mailbox_has_nothing_is_as_one_that_is_not_there(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    theirs = await post.send("ann", "bob", body="secret")
    for thread in (theirs.id, "zzzzz", "", "'\"", theirs.id[:-1]):
        assert await refused(post, "eve", thread=thread) is Code.UNKNOWN_MESSAGE
        assert await refused(post, "eve", "secret", thread=thread, sender="ann") is Code.UNKNOWN_MESSAGE


@promise("search-own")
async def test_nobody_finds_what_another_mailbox_received_or_sent(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    await post.send("ann", "bob", body="secret")
    await post.send("ann", "eve", body="hello eve")
    assert await found(post, "eve", "secret") == []
    assert await found(post, "eve", sender="ann") == ["hello eve"]
    with pytest.raises(Refusal) as refusal:
        await search(post, "nobody", "secret")
    assert refusal.value.code is Code.UNKNOWN_MAILBOX


@promise("search-own")
@pytest.mark.parametrize("mark", ["", "\ue000", "\ue001", '"', " "])
async def test_words_about_messages_cannot_be_written_into_one_nor_asked_for(post: Post, mark: str) -> None:
    await post.mailboxes("ann", "bob", "eve")
    forged = " ".join(f"{mark}{kind}{number}" for kind in "rstw" for number in range(5))
    sent = await post.send("ann", "bob", body=f"forged {forged}", subject="s")
    await post.send("eve", "eve", body="own")
    for kind in "rst":
        for number in range(5):
            words = f"{mark}{kind}{number}"
            assert await found(post, "eve", words) == []
            assert [hit.message.id for hit in (await search(post, "bob", words)).hits] == [sent.id]
    assert await found(post, "eve", "forged") == []
    assert await found(post, "eve", "own") == ["own"]


@promise("search-words")
@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("Deploy FAILED", "deploy failed"),
        ("deployments are failing", "deployment fails"),
        ("café Zürich", "CAFE zurich"),
        ("cafe\u0301", "café"),
        ("src/api/v1.py: line-42", "api v1.py 42"),
        ("snake_case_name", "case"),
        ("東京都に行く", "東京"),
        ("東京都に行く", "京都"),
        ("東京都に行く", "行"),
        ("数据库迁移失败", "迁移 失败"),
        ("서버가 내려갔다", "서버"),
        ("ภาษาไทยไม่มีช่องว่าง", "ช่องว่าง"),
        ("हिन्दी में संदेश", "हिन्दी"),
        ("Ошибка Сборки", "ошибка"),
        ("\uff46\uff55\uff4c\uff4c \uff57\uff49\uff44\uff54\uff48", "full"),
        ("nul\0separated", "separated"),
        ("emoji 🚀launch", "launch"),
        ("x" * 100_000 + " end", "end"),
    ],
)
async def test_case_accents_endings_and_missing_spaces_do_not_matter(post: Post, said: str, asked: str) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob", body=said)
    await post.send("ann", "bob", body="something else 東 北")
    assert [hit.message.id for hit in (await search(post, "bob", asked)).hits] == [sent.id]


@promise("search-words")
async def test_json_is_found_by_what_it_says(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    body = '{"job":"line one\\nline two","path":"C:\\\\new","tab":"a\\tb","n":[42]}'
    sent = await post.send("ann", "bob", body=body, format=Format.JSON)
    for words in ("job", "line", "two one", "new", "42", "tab a b"):
        assert [hit.message.id for hit in (await search(post, "bob", words)).hits] == [sent.id], words
    assert await found(post, "bob", "nline") == []


@promise("search-words")
async def test_of_a_long_body_the_line_around_the_first_word_is_shown(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    filler = "nothing to see " * 100
    await post.send("ann", "bob", body=f"{filler}the Deploy\n\nfailed here {filler}")
    [line] = await found(post, "bob", "deploy")
    assert "the Deploy failed here" in line
    assert line.startswith("…")
    assert line.endswith("…")
    assert len(line) <= 120
    [line] = await found(post, "bob", "deploys")
    assert "the Deploy failed here" in line
    await post.send("ann", "bob", body="short, and whole", subject="subject alone")
    assert await found(post, "bob", "subject") == ["short, and whole"]


@promise("search-words")
@pytest.mark.parametrize("words", ["!!!", " ", '"', "*", "()", "\0", "🚀", "\u0301\u200d"])
async def test_what_has_no_word_in_it_is_refused(post: Post, words: str) -> None:
    await post.mailboxes("ann")
    await post.send("ann", "ann", body="hello")
    assert await refused(post, "ann", words) is Code.BAD_ARGUMENT
    assert await found(post, "ann", f"{words} hello") == ["hello"]


@promise("cursor", "search-words")
async def test_pages_skip_nothing_and_show_nothing_twice(post: Post) -> None:
    await post.mailboxes("ann", "bob", "cid")
    for number in range(23):
        await post.send("ann", "cid" if number % 3 == 0 else "bob", body=f"word {number}")
    expected = [f"word {number}" for number in reversed(range(23)) if number % 3]
    for limit in (1, 4, len(expected), 100):
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = await search(post, "bob", "word", limit=limit, cursor=cursor)
            seen += [hit.message.body for hit in page.hits]
            assert len(page.hits) <= limit
            if page.next is None:
                break
            assert page.next == page.hits[-1].cursor
            cursor = page.next
            await post.send("ann", "bob", body="newer, of another kind", subject="x")
        assert seen == expected
    cut = (await search(post, "bob", "word")).hits[4].cursor
    assert await found(post, "bob", "word", cursor=cut) == expected[5:]


@promise("ids-opaque", "cursor")
async def test_a_cursor_of_another_query_mailbox_or_listing_is_refused(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "word 1", "word 2")
    cursor = (await search(post, "bob", "word", limit=1)).next
    assert cursor is not None
    inbox = (await post.inbox("bob", 1)).previews[0].cursor
    for mailbox, words, copied in (
        ("bob", "other", cursor),
        ("ann", "word", cursor),
        ("bob", "word", inbox),
        ("bob", "word", "c1.zzzz"),
        ("bob", "word", cursor + "0"),
    ):
        assert await refused(post, mailbox, words, cursor=copied) is Code.BAD_ARGUMENT
    assert await refused(post, "bob", "word", cursor=cursor, sender="ann") is Code.BAD_ARGUMENT
    with pytest.raises(Refusal):
        await post.inbox("bob", 1, cursor)


@promise("look-only", "search-words")
async def test_searching_leases_nothing_and_changes_nothing(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob", body="word")
    before = await post.read("bob", sent.id)
    await search(post, "bob", "word")
    assert await post.read("bob", sent.id) == before
    assert await post.unread("bob") == 1


@promise("search-own", "search-words")
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    words=st.one_of(
        st.text(max_size=40),
        st.text(alphabet="\"'*()^:+-{}\\ ANDORNOTEAR\ue000rstw0123456789東京é\0", max_size=30),
        st.lists(
            st.sampled_from(["own", "AND", "OR", "NOT", "NEAR(", "own*", "{text}", "text:", "-", "^own", ")"])
        ).map(" ".join),
    )
)
async def test_no_query_is_an_error_or_finds_anothers_mail(post: Post, words: str) -> None:
    if await post.store.mailbox(at("eve")) is None:
        await post.mailboxes("ann", "bob", "eve")
        await post.send("ann", "bob", body="secret AND OR NOT NEAR text r1 s1 t1 w0 0 1 2 東京 é own")
        await post.send("eve", "eve", body="own")
    hits: list[str] = []
    with contextlib.suppress(Refusal):  # only of what has no word: any other code would be told below
        hits = await found(post, "eve", words)
    assert set(hits) <= {"own"}
    hits = await found(post, "eve", f"{words} own")
    assert set(hits) <= {"own"}
