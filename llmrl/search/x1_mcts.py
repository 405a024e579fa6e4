"""MCTS of x1: each iteration adds a node's children, values them at once, and backs a discounted mean up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.layout import Form, StepLayout
from llmrl.reasoning.mcts import x1_mcts
from llmrl.reasoning.policy import SearchPolicy
from llmrl.reasoning.stepwise import StepWorld, check_range
from llmrl.reasoning.tree import SearchTree, TreeNode


@dataclass(frozen=True, kw_only=True)
class X1Mcts:
    """Grow a tree by `llmrl.reasoning.mcts.x1_mcts` and return the whole answer of the highest value.

    Source: x1 of the reasoning blueprint (arXiv 2501.11223).
    """

    iterations: int = 32
    children: int = 2  # of a node
    gamma: float = 0.96  # discount of a step
    learning_rate: float = 1.0  # of a value towards what its children say
    stop_at_terminal: bool = True  # when the selection reaches a whole answer; else go on until all is tried
    max_depth: int = 32  # steps; deeper ones are failures
    max_step_tokens: int | None = None  # None: the limit of the answer
    layout: Form = "lines"  # tagged: <step> and <solution>
    step_end: tuple[str, ...] = ("\n",)  # of lines
    reward_range: tuple[float, float] = (0.0, 1.0)  # of the judge's values

    judged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.iterations, self.children, self.max_depth) < 1:
            raise ValueError("iterations, children and max_depth: expected at least 1")
        if not 0 < self.gamma <= 1 or not 0 < self.learning_rate <= 1:
            raise ValueError(f"gamma {self.gamma}, learning_rate {self.learning_rate}: expected above 0, at most 1")
        check_range(self.reward_range)

    async def search(self, tree: SearchTree, policy: SearchPolicy, judge: AnswerJudge) -> TreeNode:
        world = StepWorld(
            tree,
            policy,
            judge,
            StepLayout(self.layout, self.step_end),
            self.children,
            self.children,
            self.max_depth,
            self.max_step_tokens,
            self.reward_range,
        )
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
