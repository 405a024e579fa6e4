"""Separate the answer of a text from its thoughts."""

from __future__ import annotations


def after_thoughts(text: str) -> str:
    """Text after the last `</think>`, or the whole text without thoughts; "" where thoughts began and never ended.

    An answer that stands in the thoughts alone does not count: a policy rewarded for it learns to leave the answer out.
    """
    return text.rpartition("</think>")[2].partition("<think>")[0]
