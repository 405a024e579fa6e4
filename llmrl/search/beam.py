"""Step beam search: beginnings of answers that the judge scores highest go on, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from llmrl.ops.scores import best_of_n
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.policy import SearchPolicy
from llmrl.reasoning.tree import SearchTree, TreeNode
from llmrl.recipe.ranges import Count


@dataclass(frozen=True, kw_only=True)
class Beam:
    """Keep the `width` best beginnings of `width * branch`, and return the best answer that came of them.

    Finished answers compete with unfinished ones on the same score, of which the judge should be a process model with
    aggregation `min`, `geomean` or `last`: a product falls with every step. With `groups` above 1 the beams are
    divided into so many that never compete with each other before the end (diverse beams: DVTS), so that one early
    favourite cannot take every place. Equal texts of a group are kept once.
    """

    width: int = 4  # beginnings that are kept, of all groups together
    branch: int = 4  # steps tried behind each of them
    groups: int = 1  # that keep their beams apart; a divisor of the width
    max_steps: int = 40
    max_step_tokens: Count | None = None  # None: the limit of the answer
    step_end: tuple[str, ...] = ("\n",)  # strings that end a step

    judged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.width, self.branch, self.groups, self.max_steps) < 1 or self.width % self.groups:
            raise ValueError(
                f"width {self.width}, branch {self.branch}, groups {self.groups}, max_steps {self.max_steps}: expected "
                "at least 1 of each, and groups that divide the width"
            )

    async def search(self, tree: SearchTree, policy: SearchPolicy, judge: AnswerJudge) -> TreeNode:
        first = await policy.grow(tree, [tree.root], self.width * self.branch, self.step_end, self.max_step_tokens)
        groups = [await self._kept(tree, judge, first[number :: self.groups]) for number in range(self.groups)]
        for step in range(1, self.max_steps):
            growing = [node for beams in groups for node in beams if not node.terminal]
            made = await policy.grow(tree, growing, self.branch, self.step_end, self.max_step_tokens, created=step)
            if not made:
                break
            for number, beams in enumerate(groups):
                theirs = [node for node in made if node.parent in beams]
                done = [node for node in beams if node.terminal or not node.children]
                groups[number] = await self._kept(tree, judge, done + theirs)
        beams = [node for kept in groups for node in kept]
        ended = [node for node in beams if node.terminal] or beams
        return ended[best_of_n([-inf if node.value is None else node.value for node in ended])] if ended else tree.root

    async def _kept(self, tree: SearchTree, judge: AnswerJudge, nodes: Sequence[TreeNode]) -> list[TreeNode]:
        """The best different ones of a group, as many as it may keep; of equal scores the earliest."""
        by_text: dict[str, TreeNode] = {}
        for node in nodes:
            by_text.setdefault(tree.text(node), node)
        different = list(by_text.values())
        scores = await judge.score(tree, different)
        order = sorted(range(len(different)), key=lambda i: -scores[i])
        return [different[i] for i in order[: self.width // self.groups]]


plugin = Beam
