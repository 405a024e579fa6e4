"""Weighted majority: the final answer whose supporters the judge scores highest together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.policy import SearchPolicy
from llmrl.reasoning.tree import SearchTree, TreeNode
from llmrl.reasoning.vote import voted


@dataclass(frozen=True, kw_only=True)
class WeightedMajority:
    """Sample `n` answers and return the best that states argmax_a sum_i [a_i = a] score_i (arXiv 2206.02336).

    Scores should not be below 0, for then a further supporter takes weight away: probabilities are not.
    """

    n: int = 8  # answers
    how: Literal["sum", "max"] = "sum"  # of the scores of an answer's supporters

    judged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n {self.n}: expected at least 1")

    async def search(self, tree: SearchTree, policy: SearchPolicy, judge: AnswerJudge) -> TreeNode:
        answers = await policy.answers(tree, self.n)
        scores = await judge.score(tree, answers)
        return voted(tree, answers, scores, self.how) if answers else tree.root


plugin = WeightedMajority
