"""Make a group reward of anything that scores: verifiers and TRL-style functions run in worker processes."""

from __future__ import annotations

import asyncio
import inspect
import math
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast, get_args

from llmrl.errors import RewardError
from llmrl.pool import Outcome
from llmrl.pool import Pool as _Processes
from llmrl.protocols import Reward, Verifier
from llmrl.types import Problem, Score, Trajectory, Verdict


class Pool(_Processes):
    """Worker processes that grade: see `llmrl.pool.Pool` for what they promise."""

    async def grade(self, verifier: Verifier, problem: Problem, text: str) -> Score:
        """The verifier's score; one with `value` None where it raised, took too long or died, with the reason.

        Raises:
            RewardError: the verifier cannot be sent to a worker, or the pool is closed.
        """
        return (await self.timed(verifier, problem, text))[0]

    async def timed(self, verifier: Verifier, problem: Problem, text: str) -> tuple[Score, float]:
        """The same, with the seconds that it took."""
        outcome = await asyncio.wrap_future(self.submit(verifier, problem, text))
        return _score(outcome, verifier, problem), outcome.seconds

    def grade_sync(self, verifier: Verifier, problem: Problem, text: str) -> Score:
        """The same for callers without an event loop; waits."""
        return _score(self.submit(verifier, problem, text).result(), verifier, problem)


def _score(outcome: Outcome, verifier: Any, problem: Problem) -> Score:
    name = _name(verifier)
    if outcome.kind == "value" and isinstance(outcome.value, Score):
        return outcome.value
    reason = {
        "value": f"returned {type(outcome.value).__name__}; expected a Score",
        "raised": f"raised {outcome.reason}",
    }.get(outcome.kind, outcome.reason)
    verdict: Verdict = "timeout" if outcome.kind == "timeout" else "error"
    return Score(None, verdict, reason=f"problem {problem.id}: {name} {reason}")


@dataclass
class Timed:
    """Seconds per scored item, kept until they are read."""

    name: str
    seconds: list[float] = field(default_factory=list, kw_only=True)

    def latencies(self) -> dict[str, list[float]]:
        """By reward: the seconds each item took since the last call; starts anew."""
        taken, self.seconds = self.seconds, []
        return {self.name: taken}


class Lifted(Protocol):
    """A reward that is ready to score, and says how long it took."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]: ...

    def latencies(self) -> dict[str, list[float]]: ...


@dataclass
class VerifierReward(Timed):
    """Scores each trajectory by its last words, in worker processes."""

    verifier: Verifier = field(kw_only=True)
    pool: Pool = field(kw_only=True)

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        return list(await asyncio.gather(*(self._one(trajectory) for trajectory in group)))

    async def _one(self, trajectory: Trajectory) -> Score:
        score, seconds = await self.pool.timed(self.verifier, trajectory.problem, trajectory.text)
        self.seconds.append(seconds)
        cut = trajectory.truncated and score.verdict == "unparsable"
        return replace(score, verdict="truncated") if cut else score


@dataclass
class GroupReward(Timed):
    """A reward that scores groups itself, timed."""

    reward: Reward = field(kw_only=True)

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        start = time.monotonic()
        scores = await self.reward.score(group)
        self.seconds += [(time.monotonic() - start) / max(len(group), 1)] * len(group)
        return scores


@dataclass
class TrainerState:
    """What TRL-style functions may read as `trainer_state`."""

    global_step: int = 0
    max_steps: int = 0
    epoch: float = 0.0


@dataclass
class FunctionReward(Timed):
    """A TRL-style function: `func(prompts, completions, **columns) -> list[float | None]`, sync or async.

    A sync function runs in the pool where a fresh process can import it, else in a thread, which cannot be killed: one
    that hangs there gives its verdict in time but keeps its thread. The limit is the pool's, times the rows.
    """

    function: Callable[..., Any] = field(kw_only=True)
    pool: Pool = field(kw_only=True)
    trainer_state: TrainerState = field(default_factory=TrainerState, kw_only=True)
    logged: dict[str, list[Any]] = field(default_factory=dict, kw_only=True)  # by `log_extra` and `log_metric`

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        if not group:
            return []
        columns = _accepted(self.function, self._columns(group))
        limit_s = self.pool.timeout_s * len(group)
        start = time.monotonic()
        try:
            outcome = await self._call(columns, limit_s)
        except TimeoutError:
            outcome = Outcome("timeout", None, f"took longer than {limit_s:g} s")
        self.seconds += [(time.monotonic() - start) / len(group)] * len(group)
        if outcome.kind != "value":
            said = f"raised {outcome.reason}" if outcome.kind == "raised" else outcome.reason
            verdict: Verdict = "timeout" if outcome.kind == "timeout" else "error"
            return [self._refuse(trajectory, said, verdict) for trajectory in group]
        values, logged = outcome.value
        for name, value in logged:
            self.logged.setdefault(name, []).append(value)
        return self._scores(values, group)

    def _columns(self, group: Sequence[Trajectory]) -> dict[str, Any]:
        problems = [trajectory.problem for trajectory in group]
        names = {name: None for problem in problems for name in problem.info}
        columns: dict[str, Any] = {name: [problem.info.get(name) for problem in problems] for name in names}
        for name in ("answer", "solution"):
            columns.setdefault(name, [problem.answer for problem in problems])
        return columns | {
            "prompts": [[dict(message) for message in problem.messages] for problem in problems],
            "completions": [[{"role": "assistant", "content": trajectory.text}] for trajectory in group],
            "completion_ids": [list(t.turns[-1].completion.token_ids) if t.turns else [] for t in group],
            "trainer_state": self.trainer_state,
        }

    async def _call(self, columns: dict[str, Any], limit_s: float) -> Outcome:
        wants = [name for name in ("log_extra", "log_metric") if _accepts(self.function, name)]
        if inspect.iscoroutinefunction(_body(self.function)):
            return await asyncio.wait_for(_call_async(self.function, columns, wants), limit_s)
        if _importable(self.function):
            future: Future[Outcome] = self.pool.submit(
                FunctionCall(self.function, tuple(wants)), columns, timeout_s=limit_s
            )
            return await asyncio.wrap_future(future)
        return await asyncio.wait_for(asyncio.to_thread(_call_here, self.function, columns, wants), limit_s)

    def _scores(self, values: Any, group: Sequence[Trajectory]) -> list[Score]:
        values = values.tolist() if hasattr(values, "tolist") else values
        if not isinstance(values, list | tuple) or len(values) != len(group):
            found = f"{len(values)} values" if isinstance(values, list | tuple) else type(values).__name__
            return [self._refuse(t, f"returned {found} for {len(group)} completions") for t in group]
        return [self._one(value, trajectory) for value, trajectory in zip(values, group, strict=True)]

    def _one(self, value: Any, trajectory: Trajectory) -> Score:
        if value is None:
            return Score(None, reason=f"{_name(self.function)} abstained")
        try:
            number = float("nan") if isinstance(value, str) else float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not math.isfinite(number):
            return self._refuse(trajectory, f"returned {value!r}; expected a finite number or None")
        return Score(number)

    def _refuse(self, trajectory: Trajectory, said: str, verdict: Verdict = "error") -> Score:
        return Score(None, verdict, reason=f"problem {trajectory.problem.id}: {_name(self.function)} {said}")


@dataclass(frozen=True)
class FunctionCall:
    """One call of a TRL-style function in a worker, with what it logged."""

    function: Callable[..., Any]
    wants: tuple[str, ...]

    def __call__(self, columns: dict[str, Any]) -> tuple[Any, list[tuple[str, Any]]]:
        logged: list[tuple[str, Any]] = []
        values = self.function(
            **columns, **{name: lambda key, value: logged.append((key, value)) for name in self.wants}
        )
        return values, logged


def _call_here(function: Callable[..., Any], columns: dict[str, Any], wants: Sequence[str]) -> Outcome:
    try:
        return Outcome("value", FunctionCall(function, tuple(wants))(columns))
    except Exception as error:
        return Outcome("raised", reason=f"{type(error).__name__}: {error}")


async def _call_async(function: Callable[..., Any], columns: dict[str, Any], wants: Sequence[str]) -> Outcome:
    outcome = _call_here(function, columns, wants)
    if outcome.kind != "value":
        return outcome
    coroutine, logged = outcome.value
    try:
        return Outcome("value", (await coroutine, logged))
    except TimeoutError:
        raise
    except Exception as error:
        return Outcome("raised", reason=f"{type(error).__name__}: {error}")


def lift(reward: Any, pool: Pool) -> Lifted:
    """A group reward, `await .score(group)` with `.latencies()`, made of whatever scores.

    Args:
        reward: an object with `lift(pool)`, which makes its own (`mix` does); a `Reward`; a `Verifier`, whose first
            parameter is called `problem`; or a TRL-style function, which has a parameter called `completions`.
        pool: where verifiers and functions run.
    Raises:
        RewardError: it is none of these.
    """
    if hasattr(reward, "lift"):
        lifted: Lifted = reward.lift(pool)
        return lifted
    if isinstance(reward, Reward):
        return cast(Lifted, reward) if hasattr(reward, "latencies") else GroupReward(_name(reward), reward=reward)
    found = f"{type(reward).__name__} {reward!r}"
    if callable(reward) and not isinstance(reward, type):
        parameters = list(_parameters(reward))
        if "completions" in parameters:
            return FunctionReward(_name(reward), function=reward, pool=pool)
        if parameters[:1] == ["problem"]:
            return VerifierReward(_name(reward), verifier=reward, pool=pool)
        found = f"{_name(reward)}({', '.join(parameters)})"
    raise RewardError(
        f"{found} is no reward: expected a verifier (problem, text) -> Score, a function (prompts, completions, "
        "**columns) -> list of numbers, or an object with async score(group)"
    )


def verdict_metrics(scores: Sequence[Score]) -> dict[str, float]:
    """`verdict/<kind>_frac`: the share of each verdict among the scores that have one; none where none has."""
    verdicts = [score.verdict for score in scores if score.verdict is not None]
    if not verdicts:
        return {}
    return {f"verdict/{kind}_frac": verdicts.count(kind) / len(verdicts) for kind in get_args(Verdict)}


def latency_metrics(latencies: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """`reward_latency/<name>/p95`: the time within which 95 of 100 items were scored, in seconds."""
    return {
        f"reward_latency/{name}/p95": sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]
        for name, seconds in latencies.items()
        if seconds
    }


def _body(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, or the `__call__` of an object."""
    return function if inspect.isroutine(function) else getattr(function, "func", type(function).__call__)


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def _accepts(function: Callable[..., Any], name: str) -> bool:
    parameters = _parameters(function)
    return name in parameters or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def _accepted(function: Callable[..., Any], columns: dict[str, Any]) -> dict[str, Any]:
    return {name: column for name, column in columns.items() if _accepts(function, name)}


def _importable(function: Callable[..., Any]) -> bool:
    """Whether a fresh process can load it: it pickles and does not live in a script."""
    try:
        return b"__main__" not in pickle.dumps(function)
    except Exception:  # pickle raises many kinds; each means no
        return False


def _name(reward: Any) -> str:
    """As people know it: a plug-in by its file, a function by its own name."""
    if hasattr(reward, "__name__"):
        return str(reward.__name__)
    kind = type(reward)
    return kind.__module__.rpartition(".")[2] if kind.__module__.startswith("llmrl.rewards.") else kind.__name__
