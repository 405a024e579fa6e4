"""The judge of a search: any reward that needs no reference answer, asked of whole answers and of beginnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf

from llmrl.errors import RewardError
from llmrl.protocols import Reward
from llmrl.reasoning.tree import SearchTree, TreeNode
from llmrl.types import Problem

FAILURES = 8  # answers without a value, before any with one: then it is not the answers' fault


@dataclass
class AnswerJudge:
    """Scores the answers that end with given nodes by a group reward.

    The problem that the reward sees is the tree's, which has no reference answer and no other columns.
    """

    reward: Reward
    judged: int = 0  # answers with a value
    failed: int = 0  # and without

    async def score(self, tree: SearchTree, nodes: Sequence[TreeNode]) -> list[float]:
        """Score the answers up to the ends of nodes, finished or not; -inf where the reward has no value.

        Raises:
            RewardError: the first answers have no value, as where a verifier misses the reference answer.
        """
        fresh = [node for node in nodes if node.value is None]
        scores = await self.reward.score([tree.trajectory(node) for node in fresh]) if fresh else []
        for node, score in zip(fresh, scores, strict=True):
            node.score, node.value = score, -inf if score.value is None else score.value
            self.judged, self.failed = self.judged + (score.value is not None), self.failed + (score.value is None)
            if not self.judged and self.failed >= FAILURES:
                raise RewardError(
                    f"the judge of the search gave none of the first {self.failed} answers a value; the last: "
                    f"{score.reason}. A search knows no reference answer: expected a judge that reads the question and "
                    "the answer alone, such as reward_model, process_model or judge"
                )
        return [node.value for node in nodes if node.value is not None]


@dataclass
class GoldJudge(AnswerJudge):
    """Judge of data generation alone: whole answers by the reference, beginnings by the reward of the judge, if any.

    A right answer is 1, a wrong one 0, and its node has the outcome; a beginning without a judge is one half, so that
    a search goes by outcomes, as the first round of critical plan step learning does.
    """

    gold: Reward = field(kw_only=True)  # with verdicts
    problem: Problem = field(kw_only=True)  # with its reference answer
    partial: bool = field(kw_only=True)  # True where `reward` scores beginnings

    async def score(self, tree: SearchTree, nodes: Sequence[TreeNode]) -> list[float]:
        """Score nodes; a whole answer that the grader could not judge is one half, without outcome."""
        ended = [node for node in nodes if node.terminal and node.value is None]
        shown = [replace(tree.trajectory(node), problem=self.problem) for node in ended]
        for node, score in zip(ended, await self.gold.score(shown) if shown else (), strict=True):
            node.score, node.value = score, 0.5
            if score.correct is not None:
                node.outcome, node.value = ("correct", 1.0) if score.correct else ("wrong", 0.0)
        begun = [node for node in nodes if node.value is None]
        if self.partial:
            await super().score(tree, begun)
        for node in begun:
            node.value = 0.5 if node.value is None else node.value
        return [node.value for node in nodes if node.value is not None]


def blind(problem: Problem) -> Problem:
    """The problem as a search may see it: its id and its messages, no reference answer and no other column."""
    return replace(problem, answer="", info={})
