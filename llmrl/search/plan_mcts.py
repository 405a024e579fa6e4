"""Plan-step MCTS: PUCT over steps or plans, values from the judge, of beginnings and of whole answers."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.layout import Form, StepLayout
from llmrl.reasoning.mcts import plan_mcts
from llmrl.reasoning.policy import SearchPolicy
from llmrl.reasoning.stepwise import StepWorld, check_range
from llmrl.reasoning.tree import SearchTree, TreeNode


@dataclass(frozen=True, kw_only=True)
class PlanMcts:
    """Grow a tree by `llmrl.reasoning.mcts.plan_mcts` and return the whole answer of the highest value.

    Source: critical plan step learning (arXiv 2409.08642), whose training searches take 200 iterations, then 100.
    """

    iterations: int = 32
    children: int = 3  # of a node
    root_children: int = 5
    c_puct: float = 1.5
    max_depth: int = 6  # steps; deeper ones are failures
    max_step_tokens: int | None = None  # None: the limit of the answer
    layout: Form = "lines"  # tagged: <step> and <solution>
    step_end: tuple[str, ...] = ("\n",)  # of lines
    reward_range: tuple[float, float] = (0.0, 1.0)  # of the judge's values

    judged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.iterations, self.children, self.root_children, self.max_depth) < 1:
            raise ValueError("iterations, children, root_children and max_depth: expected at least 1")
        check_range(self.reward_range)

    async def search(self, tree: SearchTree, policy: SearchPolicy, judge: AnswerJudge) -> TreeNode:
        world = StepWorld(
            tree,
            policy,
            judge,
            StepLayout(self.layout, self.step_end),
            self.children,
            self.root_children,
            self.max_depth,
            self.max_step_tokens,
            self.reward_range,
        )
        draw = Random(f"ties/{policy.sampling.seed}")
        await plan_mcts(tree, world.expand, world.evaluate, iterations=self.iterations, c_puct=self.c_puct, draw=draw)
        return await world.chosen()


plugin = PlanMcts
