"""Children and values of nodes, as a tree search over steps asks policy and judge for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from llmrl.errors import RewardError
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.layout import StepLayout
from llmrl.reasoning.mcts import best_answer, best_leaf
from llmrl.reasoning.policy import SearchPolicy
from llmrl.reasoning.tree import SearchTree, TreeNode


@dataclass(frozen=True)
class StepWorld:
    """A tree with its policy and judge, as `llmrl.reasoning.mcts` asks them."""

    tree: SearchTree
    policy: SearchPolicy
    judge: AnswerJudge
    layout: StepLayout
    children: int
    root_children: int
    max_depth: int
    max_step_tokens: int | None
    reward_range: tuple[float, float]

    async def expand(self, node: TreeNode, iteration: int) -> list[TreeNode]:
        """Children of a node, of different texts; none where the budget is spent."""
        n = self.children if node.parent is not None else self.root_children
        made = await self.policy.grow(self.tree, [node], n, self.layout.stop, self.max_step_tokens, created=iteration)
        first: dict[str, TreeNode] = {}
        for child in made:
            self.layout.place(child, self.max_depth)
            first.setdefault(child.text.strip(), child)
        kept = list(first.values())
        self.tree.prune([child for child in made if child not in kept])
        return kept

    async def evaluate(self, nodes: Sequence[TreeNode]) -> list[float]:
        """Values from the judge, brought from its range to -1 to 1: -1 of what is broken, 0 of the question itself.

        Raises:
            RewardError: a value outside the range.
        """
        low, high = self.reward_range
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


def check_range(reward_range: tuple[float, float]) -> None:
    """Refuse a range that is none.

    Raises:
        ValueError: low is not below high.
    """
    if not reward_range[0] < reward_range[1]:
        raise ValueError(f"reward_range {reward_range}: expected low and high")
