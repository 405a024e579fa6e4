"""Trained reward models as rewards: loaded once in a process, asked in batches, off the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from llmrl.recipe.ranges import Count
from llmrl.reward_models.rows import AnswerRow
from llmrl.scoring.transcript import before_last
from llmrl.types import Score, Trajectory

if TYPE_CHECKING:
    from llmrl.reward_models.model import RewardModel, Scored

Ask = Callable[["RewardModel", Sequence[AnswerRow]], "list[Scored]"]
Judge = Callable[[Trajectory, "Scored"], Score]


class Scorer:
    """A reward model of this process. It is loaded at the first request; waiting groups are scored together."""

    def __init__(self, path: str, device: str | None, dtype: str, tokens_per_batch: int) -> None:
        self._where = (path, device, dtype, tokens_per_batch)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reward-model")
        self._waiting: list[tuple[Ask, Sequence[AnswerRow], Future[list[Scored]]]] = []
        self._lock = threading.Lock()
        self._model: RewardModel | None = None

    async def score(self, ask: Ask, answers: Sequence[AnswerRow]) -> list[Scored]:
        """Score answers by the model.

        Args:
            ask: which of the model's scores, such as `RewardModel.sequences`.
        Raises:
            LlmrlError: the model does not load, or cannot read an answer.
        """
        future: Future[list[Scored]] = Future()
        with self._lock:
            self._waiting.append((ask, answers, future))
        self._thread.submit(self._work)
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        """Score every waiting group; a later call then has nothing to do."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for ask in dict.fromkeys(ask for ask, *_ in waiting):
            theirs = [(answers, future) for asked, answers, future in waiting if asked is ask]
            self._answer(ask, theirs)

    def _answer(self, ask: Ask, waiting: Sequence[tuple[Sequence[AnswerRow], Future[list[Scored]]]]) -> None:
        try:
            scored = iter(ask(self._loaded(), [answer for answers, _ in waiting for answer in answers]))
            for answers, future in waiting:
                future.set_result([next(scored) for _ in answers])
        except Exception as error:  # whoever waits gets it
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)

    def _loaded(self) -> RewardModel:
        from llmrl.reward_models.model import load

        if self._model is None:
            path, device, dtype, tokens_per_batch = self._where
            self._model = load(path, device=device, dtype=dtype, tokens_per_batch=tokens_per_batch)
        return self._model


@cache
def scorer(path: str, device: str | None, dtype: str, tokens_per_batch: int) -> Scorer:
    """Scorer of a model, shared within this process."""
    return Scorer(path, device, dtype, tokens_per_batch)


@dataclass(frozen=True, kw_only=True)
class ScorerOptions:
    """Options of a scorer: the model, variables of its template besides the problem's columns, device and dtype."""

    path: str
    variables: Mapping[str, Any] = field(default_factory=dict, hash=False)  # for the template
    device: str | None = None  # None: the first GPU, or the CPU
    dtype: Literal["float32", "bfloat16"] = "float32"  # below the head, which is float32
    tokens_per_batch: Count = 8192

    def reward(self, name: str, ask: Ask, judge: Judge, answer: Callable[[Trajectory], AnswerRow] | None = None) -> Any:
        """Make a group reward of the model; `answer` converts a trajectory to its input, by default prompt and text."""
        return ModelReward(name, self.scorer(), ask, answer or self.answer, judge)

    def scorer(self) -> Scorer:
        """Scorer of this model, shared within this process."""
        return scorer(self.path, self.device, self.dtype, self.tokens_per_batch)

    def answer(self, episode: Trajectory) -> AnswerRow:
        """Convert a trajectory to the model's input: its last text as response, all messages before it as prompt."""
        variables = {**episode.problem.info, **self.variables}
        return AnswerRow(prompt=before_last(episode), response=episode.text, variables=variables)


@dataclass
class ModelReward:
    """A reward model as a group reward, not bound by `rollout.reward_timeout_s`, for no thread can be killed.

    A trajectory that the model cannot read has no value; a model that does not load ends the run.
    """

    name: str
    scorer: Scorer
    ask: Ask
    answer: Callable[[Trajectory], AnswerRow]
    judge: Judge
    seconds: list[float] = field(default_factory=list)

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        began = time.monotonic()
        scored = await self.scorer.score(self.ask, [self.answer(episode) for episode in group])
        scores = [self.judge(episode, numbers) for episode, numbers in zip(group, scored, strict=True)]
        self.seconds += [(time.monotonic() - began) / max(len(group), 1)] * len(group)
        return scores

    def latencies(self) -> dict[str, list[float]]:
        """Return the seconds of each item since the last call, and forget them."""
        taken, self.seconds = self.seconds, []
        return {self.name: taken}


def unreadable(name: str, episode: Trajectory, scored: Scored, max_length: int) -> Score:
    """Score of an answer that the model could not judge."""
    cut = f"{scored.cut} of {scored.cut + scored.tokens} tokens were cut off (max_length {max_length})"
    why = cut if scored.cut else f"the model gave {scored.logits[:4]}"
    return Score(None, "error", reason=f"problem {episode.problem.id}: {name}: {why}")
