"""Rank of an answer by a learned Q and V, for search and reranking: no test and no reference answer is read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from llmrl.recipe.ranges import Amount, Count, PositiveShare
from llmrl.scoring.manager import GradingPool
from llmrl.types import Score, Trajectory

if TYPE_CHECKING:
    from llmrl.critics.dueling import DuelingModel, Rank


@dataclass(frozen=True, kw_only=True)
class ValueRank:
    """Sum of Q less the discounted V behind it, over the tokens of the last completion, by the models of a B-Coder run.

    It orders answers to one problem; between problems it compares nothing. `by` chooses two baselines in its place:
    the log-probability of the answer, and that of a token. Parts: all three. There is no verdict.

    Raises:
        CheckpointError: the folder holds no such models.
    """

    path: str  # final/ of a run with algorithm bcoder
    by: Literal["value", "logprob", "mean_logprob"] = "value"
    gamma: PositiveShare = 0.999  # as in that run
    alpha: Amount = 1.0  # as in that run
    device: str | None = None  # None: the first GPU, or the CPU
    dtype: Literal["float32", "bfloat16"] = "float32"
    tokens_per_batch: Count = 8192

    def as_group_reward(self, pool: GradingPool) -> ValueRanks:
        """Make the group reward; the models are loaded at the first score."""
        return ValueRanks(self)


@dataclass(frozen=True)
class ValueRanks:
    """The models of `ValueRank` as a group reward, asked off the event loop, one group at a time."""

    options: ValueRank

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        """Rank each trajectory; one without tokens has no value."""
        rated = [episode for episode in group if episode.last is not None and len(episode.last.completion.token_ids)]
        ranks = iter(await asyncio.get_running_loop().run_in_executor(_thread(), self._ranks, rated))
        return [self._score(next(ranks)) if episode in rated else _empty(episode) for episode in group]

    def _ranks(self, group: Sequence[Trajectory]) -> list[Rank]:
        from llmrl.critics.dueling import Answer

        answers = [Answer(e.last.prompt_ids, e.last.completion.token_ids) for e in group if e.last is not None]
        return self._model().ranks(answers, self.options.gamma, self.options.alpha)

    def _model(self) -> DuelingModel:
        options = self.options
        return _loaded(options.path, options.device, options.dtype, options.tokens_per_batch)

    def _score(self, rank: Rank) -> Score:
        parts = rank._asdict()
        return Score(parts[self.options.by], parts=parts, reason=f"{self.options.by} {parts[self.options.by]:.3f}")


def _empty(episode: Trajectory) -> Score:
    return Score(None, "error", reason=f"problem {episode.problem.id}: value_rank: no token to rank")


@cache
def _thread() -> ThreadPoolExecutor:
    """The thread of this process in which models compute."""
    return ThreadPoolExecutor(1, thread_name_prefix="value-rank")


@cache
def _loaded(path: str, device: str | None, dtype: str, tokens_per_batch: int) -> DuelingModel:
    from llmrl.critics.dueling import load

    return load(path, device, dtype, tokens_per_batch)


plugin = ValueRank
