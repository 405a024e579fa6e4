"""Majority, also called self-consistency: of several whole answers, one that states the most frequent final answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.policy import SearchPolicy
from llmrl.reasoning.tree import SearchTree, TreeNode
from llmrl.reasoning.vote import voted


@dataclass(frozen=True, kw_only=True)
class Majority:
    """Sample `n` answers and return the first that states argmax_a sum_i [a_i = a] (arXiv 2203.11171)."""

    n: int = 8  # answers

    judged: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n {self.n}: expected at least 1")

    async def search(self, tree: SearchTree, policy: SearchPolicy, judge: AnswerJudge) -> TreeNode:
        answers = await policy.answers(tree, self.n)
        return voted(tree, answers) if answers else tree.root


plugin = Majority
