"""Make a group reward of anything that scores: verifiers and TRL-style functions run in worker processes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast, get_args

import numpy as np

from llmrl.clients.retry import together
from llmrl.errors import LlmrlError, RewardError
from llmrl.protocols import Reward, Verifier
from llmrl.scoring.process_pool import CallOutcome, Pool
from llmrl.scoring.raised import raised
from llmrl.scoring.trl_functions import (
    LARGEST,
    FunctionReward,
    Timed,
    TrainerState,
    finite,
    name_of,
    parameters_of,
    unscored,
)
from llmrl.scoring.verdicts import mark_truncated
from llmrl.types import Problem, Score, Trajectory, Verdict

_AHEAD = 4  # items of a group per worker that are handed to the pool at a time


class GradingPool(Pool):
    """Worker processes that grade, with the guarantees of `llmrl.scoring.process_pool.Pool`.

    `trainer_state` is the run's progress; the group rewards made with the pool read it, and the run updates it.
    """

    def __init__(self, workers: int, timeout_s: float, memory_mb: int = 4096) -> None:
        super().__init__(workers, timeout_s, memory_mb)
        self.trainer_state = TrainerState()

    async def grade(self, verifier: Verifier, problem: Problem, text: str) -> Score:
        """The verifier's score; one with `value` None where it raised, took too long or died, with the reason.

        Raises:
            RewardError: the verifier cannot be sent to a worker, or the pool is closed.
        """
        return (await self.timed(verifier, problem, text))[0]

    async def timed(self, verifier: Verifier, problem: Problem, text: str) -> tuple[Score, float]:
        """Grade, and return the score with the seconds that it took."""
        outcome = await asyncio.wrap_future(self.submit(verifier, problem, text))
        return _score(outcome, verifier, problem), outcome.seconds

    def grade_sync(self, verifier: Verifier, problem: Problem, text: str) -> Score:
        """Grade for callers without an event loop; waits."""
        return _score(self.submit(verifier, problem, text).result(), verifier, problem)


def _score(outcome: CallOutcome, verifier: Any, problem: Problem) -> Score:
    if outcome.kind == "value":
        return usable(outcome.value, name_of(verifier), problem)
    return unscored(outcome, name_of(verifier), problem)


def usable(score: Any, name: str, problem: Problem) -> Score:
    """The score that a reward gave, or an `error` that names the reward where nothing can be learned from it.

    Its verdict is a known one, and its numbers are finite and no larger than float32 holds.
    """
    try:
        if not isinstance(score, Score):
            raise ValueError(f"returned {type(score).__name__}; expected a Score")
        if score.verdict not in (None, *get_args(Verdict)):
            raise ValueError(f"returned verdict {score.verdict!r:.80}; expected one of {', '.join(get_args(Verdict))}")
        for column in ("steps", "token_rewards"):
            _require_finite(getattr(score, column), column)
        return score if score.value is None else replace(score, value=finite(score.value))
    except ValueError as error:
        return Score(None, "error", reason=f"problem {problem.id}: {name} {error}")


def _require_finite(numbers: Any, column: str) -> None:
    column_of_numbers = np.asarray([] if numbers is None else numbers, np.float64)
    bad = column_of_numbers[~(np.abs(column_of_numbers) <= LARGEST)]
    if len(bad):
        raise ValueError(f"returned {column} with {bad[0]}; expected finite numbers of at most 3.4e38")


class GroupScorer(Protocol):
    """A reward that is ready to score, and reports how long it took."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]: ...

    def latencies(self) -> dict[str, list[float]]: ...


@dataclass
class VerifierReward(Timed):
    """Scores each trajectory by its final text, in worker processes."""

    verifier: Verifier = field(kw_only=True)
    pool: GradingPool = field(kw_only=True)

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        """The scores; few items at a time are on their way to the workers, so that a large group fills no memory."""
        scores: list[Score | None] = [None] * len(group)
        items = iter(enumerate(group))

        async def take() -> None:
            for i, trajectory in items:
                scores[i] = await self._one(trajectory)

        await together(take() for _ in range(min(len(group), _AHEAD * self.pool.workers)))
        return cast(list[Score], scores)

    async def _one(self, trajectory: Trajectory) -> Score:
        score, seconds = await self.pool.timed(self.verifier, trajectory.problem, trajectory.written)
        self.seconds.append(seconds)
        return mark_truncated(trajectory, _in_text(score, len(trajectory.written) - len(trajectory.text)))


def _in_text(score: Score, opened: int) -> Score:
    """Count the ends of steps in the completion's text, without the characters that its prompt began."""
    if not opened or score.step_ends is None:
        return score
    return replace(score, step_ends=[max(0, end - opened) for end in score.step_ends])


@dataclass
class GroupReward(Timed):
    """A reward that scores groups itself, timed; cancelled when a group takes longer than its items may together.

    Code that never awaits cannot be cancelled: work that keeps a processor busy belongs into a verifier.
    """

    reward: Reward = field(kw_only=True)
    timeout_s: float = field(kw_only=True)  # per item

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        start, limit_s = time.monotonic(), self.timeout_s * max(len(group), 1)
        verdict: Verdict = "error"
        try:
            async with asyncio.timeout(limit_s) as limit:
                scores = [
                    usable(score, self.name, one.problem)
                    for one, score in _paired(group, await self.reward.score(_copied(group)))
                ]
        except LlmrlError:
            raise
        except (Exception, SystemExit) as error:  # somebody else's code: a failure is counted, as of a verifier
            failure = f"{self.name} raised {raised(error)}"
            if limit.expired():
                verdict, failure = "timeout", f"{self.name} took longer than {limit_s:g} s for {len(group)} items"
            scores = [Score(None, verdict, reason=f"problem {one.problem.id}: {failure}") for one in group]
        self.seconds += [(time.monotonic() - start) / max(len(group), 1)] * len(group)
        return scores


def _copied(group: Sequence[Trajectory]) -> list[Trajectory]:
    """The episodes with problems of their own, for code that may change what it is given."""
    problems = {id(one.problem): one.problem.copied() for one in group}
    return [replace(one, problem=problems[id(one.problem)]) for one in group]


def _paired(group: Sequence[Trajectory], scores: Any) -> list[tuple[Trajectory, Any]]:
    """Episodes with their scores.

    Raises:
        RewardError: there are more or fewer.
    """
    if not isinstance(scores, Sequence):
        raise TypeError(f"its score() returned {type(scores).__name__}; expected a list of Score")
    if len(scores) != len(group):
        raise RewardError(
            f"problem {group[0].problem.id if group else ''}: the reward gave {len(scores)} scores for {len(group)} "
            "episodes; expected one each, in their order"
        )
    return list(zip(group, scores, strict=True))


def as_group_reward(reward: Any, pool: GradingPool) -> GroupScorer:
    """Make a group reward, `await .score(group)` with `.latencies()`, of any scorer.

    Args:
        reward: an object with `as_group_reward(pool)`, which makes its own (`mix` does); a `Reward`; a `Verifier`,
            whose first parameter is called `problem`; or a TRL-style function, which has a parameter called
            `completions` or `completion_ids`.
        pool: where verifiers and functions run; its limit for an item also binds a `Reward`.
    Raises:
        RewardError: it is none of these.
    """
    if hasattr(reward, "as_group_reward"):
        lifted: GroupScorer = reward.as_group_reward(pool)
        return lifted
    if isinstance(reward, Reward):
        if hasattr(reward, "latencies"):
            return cast(GroupScorer, reward)
        return GroupReward(name_of(reward), reward=reward, timeout_s=pool.timeout_s)
    found = f"{type(reward).__name__} {reward!r}"
    if callable(reward) and not isinstance(reward, type):
        parameters = list(parameters_of(reward))
        if not {"completions", "completion_ids"}.isdisjoint(parameters):
            return FunctionReward(name_of(reward), function=reward, pool=pool, trainer_state=pool.trainer_state)
        if parameters[:1] == ["problem"]:
            return VerifierReward(name_of(reward), verifier=reward, pool=pool)
        found = f"{name_of(reward)}({', '.join(parameters)})"
    raise RewardError(
        f"{found} is no reward: expected a verifier (problem, text) -> Score, a function (prompts, completions, "
        "**columns) -> list of numbers, or an object with async score(group)"
    )


def latency_metrics(latencies: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """`reward_latency/<name>/p95`: the time within which 95 of 100 items were scored, in seconds."""
    return {
        f"reward_latency/{name}/p95": sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]
        for name, seconds in latencies.items()
        if seconds
    }


__all__ = ["GradingPool", "GroupScorer", "TrainerState", "as_group_reward", "latency_metrics"]
