"""Plan-step MCTS: PUCT over steps or plans, values from the judge, of beginnings and of whole answers."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.mcts import plan_mcts
from llmrl.reasoning.policy import SearchPolicy
from llmrl.reasoning.stepwise import StepSearch, StepWorld
from llmrl.reasoning.tree import SearchTree, TreeNode
from llmrl.recipe.ranges import Amount


@dataclass(frozen=True, kw_only=True)
class PlanMcts(StepSearch):
    """Grow a tree by `llmrl.reasoning.mcts.plan_mcts` and return the whole answer of the highest value.

    Source: critical plan step learning (arXiv 2409.08642), whose training searches take 200 iterations, then 100.
    """

    children: int = 3  # of a node
    root_children: int = 5
    c_puct: Amount = 1.5
    max_depth: int = 6  # steps; deeper ones are failures

    @property
    def of_root(self) -> int:
        return self.root_children

    async def search(self, tree: SearchTree, policy: SearchPolicy, judge: AnswerJudge) -> TreeNode:
        world = StepWorld(tree, policy, judge, self)
        draw = Random(f"ties/{policy.sampling.seed}")
        await plan_mcts(tree, world.expand, world.evaluate, iterations=self.iterations, c_puct=self.c_puct, draw=draw)
        return await world.chosen()


plugin = PlanMcts
