"""Votes of whole answers: which of them a majority chooses."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Literal

from llmrl.answers.voting import final_answer
from llmrl.ops.scores import elected, votes
from llmrl.reasoning.tree import SearchTree, TreeNode


def voted(
    tree: SearchTree,
    answers: Sequence[TreeNode],
    weights: Sequence[float] | None = None,
    how: Literal["sum", "max"] = "sum",
) -> TreeNode:
    """Choose among answers by votes of their final answers, as maj@k of an evaluation counts them.

    An answer without a final answer, or without a finite weight, does not vote. Of those that state the elected one,
    the heaviest is returned, the earliest of several; where nobody votes, the earliest of all.

    Args:
        answers: at least one.
        weights: of each; None: a vote is a vote.
        how: the sum of an answer's weights, or its highest.
    """
    given = [1.0] * len(answers) if weights is None else list(weights)
    finals = [
        final_answer(tree.written(node)) if isfinite(weight) else None
        for node, weight in zip(answers, given, strict=True)
    ]
    winner = elected(votes(finals, given, how))
    agreeing = [i for i, final in enumerate(finals) if final == winner and winner is not None] or [0]
    return answers[max(agreeing, key=given.__getitem__)]
