"""TRL-style reward functions, `func(prompts, completions, **columns) -> list[float | None]`, as group rewards."""

from __future__ import annotations

import asyncio
import inspect
import math
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from llmrl.scoring.process_pool import CallOutcome, Pool
from llmrl.types import Problem, Score, Trajectory, Verdict


@dataclass
class Timed:
    """Seconds per scored item, kept until they are read."""

    name: str
    seconds: list[float] = field(default_factory=list, kw_only=True)

    def latencies(self) -> dict[str, list[float]]:
        """Return the seconds of each item since the last call, by reward, and forget them."""
        taken, self.seconds = self.seconds, []
        return {self.name: taken}


@dataclass
class TrainerState:
    """The run's progress, which TRL-style functions may read as `trainer_state`."""

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
        columns = accepted(self.function, self._columns(group))
        limit_s = self.pool.timeout_s * len(group)
        start = time.monotonic()
        try:
            outcome = await self._call(columns, limit_s)
        except TimeoutError:
            outcome = CallOutcome("timeout", None, f"took longer than {limit_s:g} s")
        self.seconds += [(time.monotonic() - start) / len(group)] * len(group)
        if outcome.kind != "value":
            return [unscored(outcome, self.name, trajectory.problem) for trajectory in group]
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
            "completion_ids": [[] if t.last is None else list(t.last.completion.token_ids) for t in group],
            "trainer_state": self.trainer_state,
        }

    async def _call(self, columns: dict[str, Any], limit_s: float) -> CallOutcome:
        wants = [name for name in ("log_extra", "log_metric") if accepts(self.function, name)]
        if inspect.iscoroutinefunction(_body(self.function)):
            return await asyncio.wait_for(_call_async(self.function, columns, wants), limit_s)
        if _importable(self.function):
            future: Future[CallOutcome] = self.pool.submit(
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
            return Score(None, reason=f"{self.name} abstained")
        try:
            return Score(finite(value))
        except ValueError as error:
            return self._refuse(trajectory, str(error))

    def _refuse(self, trajectory: Trajectory, failure: str) -> Score:
        return Score(None, "error", reason=f"problem {trajectory.problem.id}: {self.name} {failure}")


def finite(value: Any) -> float:
    """Convert a returned value to a number; numbers of numpy and torch are accepted.

    Raises:
        ValueError: it is no number, or not finite; the message begins with `returned`.
    """
    try:
        number = float("nan") if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not math.isfinite(number):
        raise ValueError(f"returned {value!r:.200}; expected a finite number or None")
    return number


def unscored(outcome: CallOutcome, name: str, problem: Problem) -> Score:
    """Score of an item whose call gave no value; the reason names the problem, the reward and the failure."""
    failure = f"raised {outcome.reason}" if outcome.kind == "raised" else outcome.reason
    verdict: Verdict = "timeout" if outcome.kind == "timeout" else "error"
    return Score(None, verdict, reason=f"problem {problem.id}: {name} {failure}")


@dataclass(frozen=True)
class FunctionCall:
    """A call of a TRL-style function in a worker; returns its values and its log entries."""

    function: Callable[..., Any]
    wants: tuple[str, ...]

    def warm_up(self) -> None:
        """Call the function's own `warm_up`, if it has one."""
        if hasattr(self.function, "warm_up"):
            self.function.warm_up()

    def __call__(self, columns: dict[str, Any]) -> tuple[Any, list[tuple[str, Any]]]:
        logged: list[tuple[str, Any]] = []
        values = self.function(
            **columns, **{name: lambda key, value: logged.append((key, value)) for name in self.wants}
        )
        return values, logged


def _call_here(function: Callable[..., Any], columns: dict[str, Any], wants: Sequence[str]) -> CallOutcome:
    try:
        return CallOutcome("value", FunctionCall(function, tuple(wants))(columns))
    except Exception as error:
        return CallOutcome("raised", reason=f"{type(error).__name__}: {error}")


async def _call_async(function: Callable[..., Any], columns: dict[str, Any], wants: Sequence[str]) -> CallOutcome:
    outcome = _call_here(function, columns, wants)
    if outcome.kind != "value":
        return outcome
    coroutine, logged = outcome.value
    try:
        return CallOutcome("value", (await coroutine, logged))
    except TimeoutError:
        raise
    except Exception as error:
        return CallOutcome("raised", reason=f"{type(error).__name__}: {error}")


def _body(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, or the `__call__` of an object."""
    return function if inspect.isroutine(function) else getattr(function, "func", type(function).__call__)


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def accepts(function: Callable[..., Any], name: str) -> bool:
    """Tell whether a function takes an argument of that name."""
    parameters = parameters_of(function)
    return name in parameters or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def accepted(function: Callable[..., Any], columns: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the columns that a function takes."""
    return {name: column for name, column in columns.items() if accepts(function, name)}


def _importable(function: Callable[..., Any]) -> bool:
    """Tell whether a fresh process can load a function: it pickles and does not live in a script."""
    try:
        return b"__main__" not in pickle.dumps(function)
    except Exception:  # pickle raises many kinds; each means no
        return False


def name_of(reward: Any) -> str:
    """Name of a reward for people: a plug-in's file, a function's own name."""
    if hasattr(reward, "__name__"):
        return str(reward.__name__)
    kind = type(reward)
    return kind.__module__.rpartition(".")[2] if kind.__module__.startswith("llmrl.rewards.") else kind.__name__
