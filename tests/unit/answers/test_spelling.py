"""Rewriting a long text at once: each function against the slow one that it stands for."""

from __future__ import annotations

import re
import sys
from random import Random

import pytest

from llmrl.answers.spelling import LowerWords, character_counts, folded, translated


def test_lower_case_matches_whatever_ignoring_case_matches() -> None:
    """Each letter of ASCII, and every character that an expression takes for it when it ignores case."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    taken = set(re.findall(f"[{letters}]", "".join(every), re.IGNORECASE))
    assert taken == {sign for sign in every if folded(sign) in letters}
    assert taken > set("ſıİK")


def test_the_length_stays() -> None:
    text = "".join(map(chr, range(sys.maxunicode + 1)))
    assert len(folded(text)) == len(text)


def test_signs_are_translated_as_by_a_table_of_codes() -> None:
    table = {"×": "*", "−": "-", "（": "("}
    for text in ("plain", "2×3−4（5", "××é", ""):
        assert translated(text, table) == text.translate({ord(sign): spelled for sign, spelled in table.items()})


@pytest.mark.parametrize("times", [1, 2000])
def test_characters_are_counted_in_texts_short_and_long(times: int) -> None:
    text = "aé中😀\ud800 a" * times
    assert dict(character_counts(text)) == {"a": 2 * times, **dict.fromkeys("é中😀\ud800 ", times)}


@pytest.mark.parametrize("kind", [r"[^\W\d_]", r"[^\W_]"])
def test_words_are_the_same_by_both_ways(kind: str) -> None:
    """A text in ASCII without an apostrophe is read by another way than one with a letter outside of it."""
    words, draw = LowerWords(kind), Random(0)
    for _ in range(500):
        text = "".join(draw.choice("aB1_ .-\n") for _ in range(12))
        assert words.of(f"{text} é") == [*words.of(text), "é"]
    assert words.of("It's noon, o’clock'") == ["it's", "noon", "o’clock"]
