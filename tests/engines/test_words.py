"""The line of a text that a search shows: which one, and that no text and no query make it take long."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_mailbox.engines.sqlite import words

TEXT = 16_384
QUERY = 200
NASTY = {
    "one long word, which stands behind what is looked through": ("b " * (TEXT // 2), ["a" * QUERY]),
    "equal letters": ("a" * TEXT, ["a" * (QUERY - 1) + "b"]),
    "words that are nearly it": ((("a" * 120) + " ") * (TEXT // 121), ["a" * QUERY]),
    "words that are nearly it and begin anywhere": ("a_" * (TEXT // 2), ["a" * QUERY]),
    "marks, behind each of which a word may begin": (("\u0301" * 132 + "x") * (TEXT // 133), ["\u0301" * QUERY]),
    "many short words, in the middle of others": (
        "xa" * (TEXT // 2),
        [f"a{chr(97 + n)}" for n in range(26)] * 2 + ["a"],
    ),
    "many words that are not there": ("xa" * (TEXT // 2), [f"{chr(98 + n % 20)}{n}" for n in range(60)]),
}


def seconds(do: Callable[[], object]) -> float:
    """Return what it takes of this thread's time, at best."""
    taken = []
    for _ in range(3):
        begin = time.thread_time()
        do()
        taken.append(time.thread_time() - begin)
    return min(taken)


@pytest.mark.parametrize("what", NASTY)
def test_no_text_and_no_query_make_a_line_take_much_longer_than_another(what: str) -> None:
    text, asked = NASTY[what]
    text = text.ljust(TEXT, " ")
    usual = seconds(lambda: words.excerpt("lorem ipsum dolor " * (TEXT // 18) + " sit", ["dolor", "amet", "sit"]))
    assert seconds(lambda: words.excerpt(text, asked)) < 10 * usual


@given(st.text(alphabet="ab_ ", max_size=300), st.text(alphabet="ab", min_size=1, max_size=9))
def test_the_first_form_that_has_most_in_common_with_a_word_is_in_the_line(text: str, word: str) -> None:
    text = " ".join(text.split())
    shortest = min(len(word), max(3, len(word) * 2 // 3))
    forms = [word[:length] for length in range(len(word), shortest - 1, -1)]
    places = [match.start() for form in forms if (match := re.search(rf"(?<![^\W_]){form}", text))]
    found = words.excerpt(text, [word])
    assert (found is None) == (not places)
    if found is not None:
        assert text[places[0] : places[0] + shortest] in found
        assert found.strip("…") in text
