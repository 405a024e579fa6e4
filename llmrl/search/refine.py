"""Refinement: an answer is revised again and again by the policy itself, and the best version is returned."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from llmrl.ops.scores import best_of_n
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.policy import SearchPolicy
from llmrl.reasoning.tree import SearchTree, TreeNode

INSTRUCTION = "Check your answer for mistakes. Then solve the problem again, correcting what was wrong."


@dataclass(frozen=True, kw_only=True)
class Refine:
    """Sample an answer, then `rounds` times `branch` revisions of the best so far; return the best of all.

    A revision's prompt is the question, the answer that is revised and `instruction`, so a prompt never holds more than
    one answer. The chosen episode has a turn for each version on the way to it.

    Source: sequential revisions of Madaan et al. 2023 (arXiv 2303.17651) and Snell et al. 2024 (arXiv 2408.03314).
    """

    rounds: int = 3  # of revision
    branch: int = 1  # revisions in each
    instruction: str = INSTRUCTION

    judged: ClassVar[bool] = True
    contexts: ClassVar[int] = 3  # answers' lengths in a context: the one revised, its revision, and the instruction

    def __post_init__(self) -> None:
        if self.rounds < 0 or self.branch < 1 or not self.instruction:
            raise ValueError(
                f"rounds {self.rounds}, branch {self.branch}, instruction {self.instruction!r}: expected at least 0 and"
                " 1, and a text"
            )

    async def search(self, tree: SearchTree, policy: SearchPolicy, judge: AnswerJudge) -> TreeNode:
        versions = await policy.answers(tree, 1)
        await judge.score(tree, versions)
        for number in range(self.rounds if versions else 0):
            revised = await policy.refine(
                tree, best(versions), self.branch, [{"role": "user", "content": self.instruction}], created=number + 1
            )
            if not revised:
                break
            await judge.score(tree, revised)
            versions += revised
        return best(versions) if versions else tree.root


def best(versions: list[TreeNode]) -> TreeNode:
    """The version with the highest score; the earliest of several."""
    return versions[best_of_n([-inf if node.value is None else node.value for node in versions])]


plugin = Refine
