"""Rewriting a long text at once: each function against the slow one that it stands for."""

from __future__ import annotations

import re
import sys

from llmrl.answers.spelling import folded, translated


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
