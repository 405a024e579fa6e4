"""Plays a search: a problem in, the chosen answer as an episode out, with the tree behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from llmrl.chat import Chat
from llmrl.errors import RecipeError
from llmrl.plugins import build, find, name_of
from llmrl.protocols import Engine, Reward
from llmrl.reasoning.judge import AnswerJudge, GoldJudge, blind
from llmrl.reasoning.policy import SearchPolicy
from llmrl.reasoning.strategy import Strategy
from llmrl.reasoning.tree import SearchTree, TreeNode
from llmrl.recipe import yaml_text
from llmrl.types import Problem, Sampling, Trajectory


@dataclass(frozen=True, slots=True)
class Searched:
    """The result of a search."""

    trajectory: Trajectory  # the chosen answer, unscored
    tokens: int  # that the policy generated, in all branches
    tree: SearchTree
    chosen: TreeNode


@dataclass(frozen=True, kw_only=True)
class Searcher:
    """Plays a strategy: engine, chat template, judge and limits. Several problems at once share the engine's batches.

    Unless `gold` is given, the strategy sees the problem without its reference answer and columns, and nothing that it
    holds leads to them: the chosen episode gets its problem back after the search has ended.
    """

    engine: Engine
    chat: Chat
    strategy: Strategy
    judge: AnswerJudge | None = None
    budget: int | None = None  # tokens that may be generated for a problem
    max_model_len: int | None = None
    gold: Reward | None = None  # data generation only: scores whole answers against the reference

    def __post_init__(self) -> None:
        if self.judge is None and self.gold is None and getattr(self.strategy, "judged", True):
            raise RecipeError(
                f"search {name_of('search', self.strategy)}: compares answers by a judge, and there is none; give a "
                "reward that needs no reference answer: --judge '{name: reward_model, path: FOLDER}'"
            )

    async def play(self, problem: Problem, sampling: Sampling, prompt_ids: Sequence[int] | None = None) -> Searched:
        """Search an answer to a problem.

        Args:
            sampling: of an answer; its seed determines the search.
            prompt_ids: of the problem; None: its messages by the chat template.
        Raises:
            EngineError: the engine failed.
            RewardError: the judge gives no values.
        """
        seen = blind(problem)
        prompt = self.chat.prompt_ids(problem.messages) if prompt_ids is None else prompt_ids
        tree = SearchTree(seen, prompt, self.chat.text, opened=self.chat.opened)
        policy = SearchPolicy(self.engine, self.chat, sampling, self.budget, self.max_model_len)
        judge = self.judge or AnswerJudge(NoReward())
        if self.gold is not None:
            judge = GoldJudge(judge.reward, gold=self.gold, problem=problem, partial=self.judge is not None)
        chosen = await self.strategy.search(tree, policy, judge)
        if self.gold is not None:
            await judge.score(tree, list(tree.leaves()))  # those that the strategy asked nobody about
        trajectory = replace(tree.trajectory(chosen), problem=problem)
        return Searched(trajectory, policy.tokens, tree, chosen)


class NoReward:
    """The judge of strategies that need none; asking it is an error of the strategy."""

    async def score(self, group: Sequence[Trajectory]) -> list[Any]:
        """Refuse.

        Raises:
            RecipeError: always.
        """
        raise RecipeError("the strategy says `judged = False` and asks its judge; expected `judged = True`")


def parse_search(text: str) -> dict[str, Any]:
    """Spec of a strategy from the command line: `best_of_n:8`, or `{name: best_of_n, n: 8}`.

    A number behind the last colon is the value of the strategy's first option.

    Raises:
        RecipeError: there is no such strategy, or it takes no number.
    """
    if text.lstrip().startswith("{"):
        return dict(yaml_text.parse(text, "--search"))
    name, _, number = text.rpartition(":")
    if not name or not number.isdigit():
        return {"name": text}
    plugin = find("search", name, "search")
    if not is_dataclass(plugin) or not fields(plugin):
        raise RecipeError(f"search {text!r}: {name} has no option that {number} could be")
    return {"name": name, fields(plugin)[0].name: int(number)}


def build_strategy(spec: str | Mapping[str, Any]) -> Strategy:
    """Build a strategy from its spec or its text: see `parse_search`.

    Raises:
        RecipeError: as `llmrl.plugins.build`.
    """
    strategy: Strategy = build("search", parse_search(spec) if isinstance(spec, str) else spec, "search")
    return strategy
