"""Where a text's thoughts end and its answer begins."""

from __future__ import annotations


def after_thoughts(text: str) -> str:
    """What follows the last `</think>`, or the whole text without thoughts; "" where thoughts began and never ended.

    What was only thought is not answered: a policy that is paid for it learns to leave the answer out.
    """
    return text.rpartition("</think>")[2].partition("<think>")[0]
