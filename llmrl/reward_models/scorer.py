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

from llmrl.reward_models.rows import AnswerRow
from llmrl.types import Message, Score, Trajectory

if TYPE_CHECKING:
    from llmrl.reward_models.model import RewardModel, Scored

Ask = Callable[["RewardModel", Sequence[AnswerRow]], "list[Scored]"]
Judge = Callable[[Trajectory, "Scored"], Score]


class Scorer:
    """One reward model of this process. It is loaded when first asked; groups that wait are scored together."""

    def __init__(self, path: str, device: str | None, dtype: str, tokens_per_batch: int) -> None:
        self._where = (path, device, dtype, tokens_per_batch)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reward-model")
        self._waiting: list[tuple[Ask, Sequence[AnswerRow], Future[list[Scored]]]] = []
        self._lock = threading.Lock()
        self._model: RewardModel | None = None

    async def score(self, ask: Ask, answers: Sequence[AnswerRow]) -> list[Scored]:
        """What the model says of the answers.

        Args:
            ask: which of the model's scores, such as `RewardModel.sequences`.
        Raises:
            LlmrlError: the model does not load, or an answer is nothing that it can read.
        """
        future: Future[list[Scored]] = Future()
        with self._lock:
            self._waiting.append((ask, answers, future))
        self._thread.submit(self._work)
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        """Score all that waits; the next call finds nothing, then."""
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
    """The one scorer of a model in this process."""
    return Scorer(path, device, dtype, tokens_per_batch)


@dataclass(frozen=True, kw_only=True)
class ScorerOptions:
    """Which model, what its template may read besides the columns of the problem, and where it computes."""

    path: str
    variables: Mapping[str, Any] = field(default_factory=dict, hash=False)  # for the template
    device: str | None = None  # None: the first GPU, or the CPU
    dtype: Literal["float32", "bfloat16"] = "float32"  # below the head, which is float32
    tokens_per_batch: int = 8192

    def reward(self, name: str, ask: Ask, judge: Judge, answer: Callable[[Trajectory], AnswerRow] | None = None) -> Any:
        """The group reward that asks the model; `answer` says what it reads of a trajectory, by default its text."""
        return ModelReward(name, self.scorer(), ask, answer or self.answer, judge)

    def scorer(self) -> Scorer:
        """The one scorer of this model in this process."""
        return scorer(self.path, self.device, self.dtype, self.tokens_per_batch)

    def answer(self, one: Trajectory) -> AnswerRow:
        """The trajectory's last words, behind everything that was said before."""
        return AnswerRow(prompt=asked(one), response=one.text, variables={**one.problem.info, **self.variables})


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
        scored = await self.scorer.score(self.ask, [self.answer(one) for one in group])
        scores = [self.judge(one, found) for one, found in zip(group, scored, strict=True)]
        self.seconds += [(time.monotonic() - began) / max(len(group), 1)] * len(group)
        return scores

    def latencies(self) -> dict[str, list[float]]:
        """The seconds of each item since the last call; starts anew."""
        taken, self.seconds = self.seconds, []
        return {self.name: taken}


def asked(one: Trajectory) -> list[Message]:
    """All that was said before the policy's last words."""
    said: list[Message] = list(one.problem.messages)
    for turn in one.turns[:-1]:
        said += [{"role": "assistant", "content": turn.text}, *turn.reply]
    return said


def unreadable(name: str, one: Trajectory, found: Scored, max_length: int) -> Score:
    """The score of what the model could not judge."""
    cut = f"{found.cut} of {found.cut + found.tokens} tokens were cut off (max_length {max_length})"
    why = cut if found.cut else f"the model gave {found.logits[:4]}"
    return Score(None, "error", reason=f"problem {one.problem.id}: {name}: {why}")
