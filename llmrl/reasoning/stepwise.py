"""Children and values of nodes, as a tree search over steps asks policy and judge for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

from llmrl.errors import RewardError
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.layout import Form, StepLayout
from llmrl.reasoning.mcts import best_answer, best_leaf
from llmrl.reasoning.policy import SearchPolicy
from llmrl.reasoning.tree import SearchTree, TreeNode
from llmrl.recipe.ranges import Count


@dataclass(frozen=True, kw_only=True)
class StepSearch:
    """Options of every tree search over steps."""

    iterations: int = 32
    children: int = 2  # of a node
    max_depth: int = 32  # steps; deeper ones are failures
    max_step_tokens: Count | None = None  # None: the limit of the answer
    layout: Form = "lines"  # tagged: <step> and <solution>
    step_end: tuple[str, ...] = ("\n",)  # of lines
    reward_range: tuple[float, float] = (0.0, 1.0)  # of the judge's values

    judged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.iterations, self.children, self.of_root, self.max_depth) < 1:
            raise ValueError("iterations, children and max_depth: expected at least 1")
        if not self.reward_range[0] < self.reward_range[1]:
            raise ValueError(f"reward_range {self.reward_range}: expected low and high")

    @property
    def of_root(self) -> int:
        """Children of the root."""
        return self.children


@dataclass(frozen=True)
class StepWorld:
    """A tree with its policy and judge, as `llmrl.reasoning.mcts` asks them."""

    tree: SearchTree
    policy: SearchPolicy
    judge: AnswerJudge
    options: StepSearch

    async def expand(self, node: TreeNode, iteration: int) -> list[TreeNode]:
        """Children of a node, of different texts; none where the budget is spent."""
        options = self.options
        layout, n = StepLayout(options.layout, options.step_end), options.children
        if node.parent is None:
            n = options.of_root
        made = await self.policy.grow(self.tree, [node], n, layout.stop, options.max_step_tokens, created=iteration)
        first: dict[str, TreeNode] = {}
        for child in made:
            layout.place(child, options.max_depth)
            first.setdefault(child.text.strip(), child)
        kept = list(first.values())
        self.tree.prune([child for child in made if child not in kept])
        return kept

    async def evaluate(self, nodes: Sequence[TreeNode]) -> list[float]:
        """Values from the judge, brought from its range to -1 to 1: -1 of what is broken, 0 of the question itself.

        Raises:
            RewardError: a value outside the range.
        """
        low, high = self.options.reward_range
        asked = [node for node in nodes if node.parent is not None and node.outcome not in ("malformed", "too_deep")]
        numbers = dict(zip((node.id for node in asked), await self.judge.score(self.tree, asked), strict=True))
        for number in numbers.values():
            if isfinite(number) and not low <= number <= high:
                raise RewardError(
                    f"the judge of the search gave {number:g}; expected {low:g} to {high:g}: set the search's "
                    "reward_range to the range of the judge's values"
                )
        values = {i: 2 * (max(number, low) - low) / (high - low) - 1 for i, number in numbers.items()}
        return [values.get(node.id, 0.0 if node.parent is None else -1.0) for node in nodes]

    async def chosen(self) -> TreeNode:
        """The best whole answer; where there is none, the best beginning, ended by the policy."""
        best = best_answer(self.tree)
        return await self.policy.finish(self.tree, best_leaf(self.tree)) if best is None else best
