"""MCTS of x1: each iteration adds a node's children, values them at once, and backs a discounted mean up."""

from __future__ import annotations

from dataclasses import dataclass

from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.mcts import x1_mcts
from llmrl.reasoning.policy import SearchPolicy
from llmrl.reasoning.stepwise import StepSearch, StepWorld
from llmrl.reasoning.tree import SearchTree, TreeNode


@dataclass(frozen=True, kw_only=True)
class X1Mcts(StepSearch):
    """Grow a tree by `llmrl.reasoning.mcts.x1_mcts` and return the whole answer of the highest value.

    Source: x1 of the reasoning blueprint (arXiv 2501.11223).
    """

    gamma: float = 0.96  # discount of a step
    learning_rate: float = 1.0  # of a value towards what its children say
    stop_at_terminal: bool = True  # when the selection reaches a whole answer; else go on until all is tried

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.gamma <= 1 or not 0 < self.learning_rate <= 1:
            raise ValueError(f"gamma {self.gamma}, learning_rate {self.learning_rate}: expected above 0, at most 1")

    async def search(self, tree: SearchTree, policy: SearchPolicy, judge: AnswerJudge) -> TreeNode:
        world = StepWorld(tree, policy, judge, self)
        await x1_mcts(
            tree,
            world.expand,
            world.evaluate,
            iterations=self.iterations,
            reward_range=(-1.0, 1.0),
            gamma=self.gamma,
            learning_rate=self.learning_rate,
            stop_at_terminal=self.stop_at_terminal,
        )
        return await world.chosen()


plugin = X1Mcts
