"""TRL-style reward functions, `func(prompts, completions, **columns) -> list[float | None]`, as group rewards."""

from __future__ import annotations

import asyncio
import inspect
import numbers
import pickle
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from copy import copy, deepcopy
from dataclasses import dataclass, field
from typing import Any

from llmrl.errors import DataError
from llmrl.scoring.process_pool import CallOutcome, Pool
from llmrl.scoring.raised import raised
from llmrl.types import Problem, Score, Trajectory, Verdict

RESERVED = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
"""Arguments of functions in TRL's form that are no columns of the data."""
LARGEST = 3.4028234663852886e38
"""The largest number of float32, in which rewards are learned from."""


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
        start = time.monotonic()
        outcome = await self._call(columns, self.pool.timeout_s * len(group))
        self.seconds += [(time.monotonic() - start) / len(group)] * len(group)
        if outcome.kind != "value":
            return [unscored(outcome, self.name, trajectory.problem) for trajectory in group]
        values, logged = outcome.value
        for name, value in logged:
            self.logged.setdefault(name, []).append(value)
        return self._scores(values, group)

    def require_free(self, problem: Problem) -> None:
        """Refuse a problem with a column by whose name the function is passed something else.

        Raises:
            DataError: names the problem and the column.
        """
        if taken := [name for name in RESERVED if name in problem.info and accepts(self.function, name)]:
            raise DataError(
                f"problem {problem.id}: the data has a column {taken[0]!r}, and {self.name} is passed something "
                "else by that name; rename the column"
            )

    def _columns(self, group: Sequence[Trajectory]) -> dict[str, Any]:
        """Arguments by name; nothing in them is shared with the problems, or by two rows."""
        problems = [trajectory.problem for trajectory in group]
        for problem in problems:
            self.require_free(problem)
        names = [name for name in dict.fromkeys(n for p in problems for n in p.info) if accepts(self.function, name)]
        columns: dict[str, Any] = {name: [deepcopy(problem.info.get(name)) for problem in problems] for name in names}
        for name in ("answer", "solution"):
            columns.setdefault(name, [problem.answer for problem in problems])
        columns.setdefault("id", [problem.id for problem in problems])
        return columns | {
            "prompts": [
                problem.messages[-1]["content"] if problem.plain else deepcopy([dict(m) for m in problem.messages])
                for problem in problems
            ],
            "completions": [t.text if t.problem.plain else [{"role": "assistant", "content": t.text}] for t in group],
            "completion_ids": [[] if t.last is None else list(t.last.completion.token_ids) for t in group],
            "trainer_state": copy(self.trainer_state),
        }

    async def _call(self, columns: dict[str, Any], limit_s: float) -> CallOutcome:
        wants = [name for name in ("log_extra", "log_metric") if accepts(self.function, name)]
        if not inspect.iscoroutinefunction(_body(self.function)) and _importable(self.function):
            future: Future[CallOutcome] = self.pool.submit(
                FunctionCall(self.function, tuple(wants)), columns, timeout_s=limit_s
            )
            return await asyncio.wrap_future(future)
        try:
            async with asyncio.timeout(limit_s):
                if inspect.iscoroutinefunction(_body(self.function)):
                    return await _call_async(self.function, columns, wants)
                return await asyncio.to_thread(_call_here, self.function, columns, wants)
        except TimeoutError:  # ours: what a function raises is an outcome
            return CallOutcome("timeout", None, f"took longer than {limit_s:g} s")

    def _scores(self, values: Any, group: Sequence[Trajectory]) -> list[Score]:
        values = values.tolist() if hasattr(values, "tolist") else values
        if not isinstance(values, list | tuple) or len(values) != len(group):
            found = f"{len(values)} values" if isinstance(values, list | tuple) else type(values).__name__
            return [self._refuse(t, f"returned {found} for {len(group)} completions") for t in group]
        return [self._one(value, trajectory) for value, trajectory in zip(values, group, strict=True)]

    def _one(self, value: Any, trajectory: Trajectory) -> Score:
        if value is None:
            return Score(None, reason=f"{self.name} abstained", abstained=True)
        try:
            return Score(finite(value))
        except ValueError as error:
            return self._refuse(trajectory, str(error))

    def _refuse(self, trajectory: Trajectory, failure: str) -> Score:
        return Score(None, "error", reason=f"problem {trajectory.problem.id}: {self.name} {failure}")


def finite(value: Any) -> float:
    """Convert a returned value to a number; numbers of numpy and torch are accepted, and truth values as 0 and 1.

    Raises:
        ValueError: it is no number, not finite, or larger than float32 holds; the message begins with `returned`.
    """
    try:
        complex_one = isinstance(value, numbers.Complex) and not isinstance(value, numbers.Real)
        number = float("nan") if complex_one or isinstance(value, str | bytes | bytearray) else float(value)
    except OverflowError:  # of a whole number
        number = float("inf")
    except Exception:  # somebody else's type
        number = float("nan")
    if not abs(number) <= LARGEST:
        large = " of at most 3.4e38, which float32 holds," if abs(number) > LARGEST else ""
        raise ValueError(f"returned {_shown(value)}; expected a finite number{large} or None")
    return number


def _shown(value: Any) -> str:
    """A value in a message."""
    try:
        return f"{value!r:.200}"
    except Exception:  # a number of thousands of digits, or a type whose repr is broken
        bits = f" of {value.bit_length()} bits" if isinstance(value, int) else ""
        return f"a value of type {type(value).__name__}{bits}"


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
        return awaited(values), logged


def awaited(value: Any) -> Any:
    """The result of a call: of an async function behind a plain decorator, too. For threads without an event loop."""
    return asyncio.run(_result(value)) if inspect.isawaitable(value) else value


async def _result(value: Awaitable[Any]) -> Any:
    return await value


def _call_here(function: Callable[..., Any], columns: dict[str, Any], wants: Sequence[str]) -> CallOutcome:
    """Call in this thread; a function that exits has failed, like any that raises."""
    try:
        return CallOutcome("value", FunctionCall(function, tuple(wants))(columns))
    except (Exception, SystemExit) as error:
        return CallOutcome("raised", reason=raised(error))


async def _call_async(function: Callable[..., Any], columns: dict[str, Any], wants: Sequence[str]) -> CallOutcome:
    """Call an async function on this event loop; its own TimeoutError is an error like any other."""
    logged: list[tuple[str, Any]] = []
    added = {name: lambda key, value: logged.append((key, value)) for name in wants}
    try:
        return CallOutcome("value", (await function(**columns, **added), logged))
    except (Exception, SystemExit) as error:
        return CallOutcome("raised", reason=raised(error))


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
