"""Best of n: of several whole answers, the one that the judge scores highest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llmrl.ops.scores import best_of_n
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.policy import SearchPolicy
from llmrl.reasoning.tree import SearchTree, TreeNode


@dataclass(frozen=True, kw_only=True)
class BestOfN:
    """Sample `n` answers and return argmax_i score(answer_i), the earliest of equal ones."""

    n: int = 8  # answers

    judged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n {self.n}: expected at least 1")

    async def search(self, tree: SearchTree, policy: SearchPolicy, judge: AnswerJudge) -> TreeNode:
        answers = await policy.answers(tree, self.n)
        scores = await judge.score(tree, answers)
        return answers[best_of_n(scores)] if answers else tree.root


plugin = BestOfN
