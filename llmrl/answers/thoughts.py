"""Separate the answer of a text from its thoughts."""

from __future__ import annotations

import re

OPENED = re.compile(r"<think>\s*\Z")


def after_thoughts(text: str) -> str:
    """Text after the last `</think>`, or the whole text without thoughts; "" where thoughts began and never ended.

    An answer that stands in the thoughts alone does not count: a policy rewarded for it learns to leave the answer out.
    """
    return text.rpartition("</think>")[2].partition("<think>")[0]


def opened_thoughts(prompt: str) -> str:
    """Read the `<think>`, and the blanks behind it, with which a prompt ends; "" where it ends otherwise."""
    found = OPENED.search(prompt)
    return found[0] if found else ""
