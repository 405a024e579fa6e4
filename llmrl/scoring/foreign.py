"""Rewards written for other toolkits: imported by name, called in worker processes, their results checked."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from llmrl.errors import LlmrlError
from llmrl.plugins import find
from llmrl.scoring.process_pool import CallOutcome, Pool
from llmrl.scoring.raised import raised
from llmrl.scoring.reserved import Reserves
from llmrl.scoring.trl_functions import Timed, awaited, finite, unscored
from llmrl.types import Problem, Score, Trajectory

Call = Callable[[list[dict[str, Any]]], list[Score]]
"""Scores for the arguments of some episodes, in their order; made in a worker process, so it pickles."""


@dataclass(frozen=True)
class Named:
    """Somebody else's function or object, by the name under which every process can import it.

    Raises:
        RecipeError: it cannot be imported.
        ValueError: the name is not of the form package.module:attribute.
    """

    name: str
    where: str  # the option that names it

    def __post_init__(self) -> None:
        if ":" not in self.name:
            raise ValueError(f"{self.where} {self.name!r}: expected package.module:attribute on the Python path")

    def __reduce__(self) -> tuple[Any, ...]:  # by name: closures and locks inside the object need not pickle
        return Named, (self.name, self.where)

    @cached_property
    def itself(self) -> Any:
        """The object that the name stands for."""
        return find("reward", self.name, self.where)

    @property
    def function(self) -> Callable[..., Any]:
        """The object, if it can be called.

        Raises:
            ValueError: it cannot.
        """
        if not callable(self.itself):
            raise ValueError(f"{self.where} {self.name!r} is {type(self.itself).__name__}; expected a function")
        return self.itself  # type: ignore[no-any-return]

    @property
    def short(self) -> str:
        """The attribute's name, as metrics and messages have it."""
        return self.name.partition(":")[2]


@dataclass
class Called(Timed):
    """Scores episodes by calls in worker processes, each of them alone or all of a group in one."""

    call: Call = field(kw_only=True)
    arguments: Callable[[Trajectory], dict[str, Any]] = field(kw_only=True)
    pool: Pool = field(kw_only=True)
    together: bool = field(default=False, kw_only=True)

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        if self.together:
            return await self._some(group) if group else []
        return [score for (score,) in await asyncio.gather(*(self._some([episode]) for episode in group))]

    def require_free(self, problem: Problem) -> None:
        """Refuse a problem with a column that the call fills itself.

        Raises:
            DataError: names the problem and the column.
        """
        if isinstance(self.call, Reserves):
            self.call.require_free(problem)

    async def _some(self, episodes: Sequence[Trajectory]) -> list[Score]:
        limit_s = self.pool.timeout_s * len(episodes)
        try:
            arguments = [self.arguments(episode) for episode in episodes]
        except LlmrlError:
            raise
        except Exception as error:  # columns of other types than the toolkit has
            outcome = CallOutcome("raised", reason=raised(error))
        else:
            outcome = await asyncio.wrap_future(self.pool.submit(self.call, arguments, timeout_s=limit_s))
        self.seconds += [outcome.seconds / len(episodes)] * len(episodes)
        if outcome.kind != "value":
            return [unscored(outcome, self.name, episode.problem) for episode in episodes]
        return [
            replace(score, reason=f"problem {episode.problem.id}: {self.name} {score.reason}")
            if score.value is None
            else score
            for score, episode in zip(outcome.value, episodes, strict=True)
        ]


def returned(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call a function, sync or async, and return its result; for a worker process, which has no event loop."""
    return awaited(function(*arguments, **named))


@dataclass(frozen=True, kw_only=True)
class ByAnswer(ABC):
    """A function that is asked about one answer at a time."""

    function: str  # package.module:attribute
    correct_at: float | None = None  # from which value on an answer is right; null: the value gives no verdict

    def __post_init__(self) -> None:
        _ = self.named.function

    @property
    def named(self) -> Named:
        """The function, by its name."""
        return Named(self.function, "function")

    def as_group_reward(self, pool: Pool) -> Called:
        """The group reward: one call in a worker process for each answer."""
        return Called(self.named.short, call=self, arguments=self.arguments, pool=pool)

    def warm_up(self) -> None:
        """Import the function's module, outside the first item's time."""
        _ = self.named.function

    def __call__(self, items: list[dict[str, Any]]) -> list[Score]:
        return [self._score(item) for item in items]

    def _score(self, arguments: dict[str, Any]) -> Score:
        result = self.ask(arguments)
        try:
            return self.read(result)
        except ValueError as error:
            return Score(None, "error", reason=str(error))

    @abstractmethod
    def arguments(self, trajectory: Trajectory) -> dict[str, Any]:
        """Arguments of the function for an episode; plain values, for a worker process."""

    @abstractmethod
    def ask(self, arguments: dict[str, Any]) -> Any:
        """Call the function and return its result."""

    @abstractmethod
    def read(self, result: Any) -> Score:
        """Convert a result to a score.

        Raises:
            ValueError: it is no score; the message begins with `returned`.
        """


def plain(value: Any) -> Any:
    """Lists and numbers of a tensor or an array, without importing what made it; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def judged(value: Any, correct_at: float | None, parts: Mapping[str, float | None], reason: str = "") -> Score:
    """Score of a returned value; at `correct_at` or above the verdict is correct, below it wrong."""
    if value is None:
        return Score(None, parts=parts, reason="abstained", abstained=True)
    number = finite(value)
    if correct_at is None:
        return Score(number, parts=parts, reason=reason)
    return Score(number, "correct" if number >= correct_at else "wrong", parts=parts, reason=reason)


def numbers(entries: Mapping[str, Any]) -> dict[str, float | None]:
    """Keep the entries that are finite numbers, or lists of numbers with a finite mean."""
    kept: dict[str, float | None] = {}
    for name, value in entries.items():
        values = plain(value) if isinstance(plain(value), list) else [plain(value)]
        if values and all(isinstance(number, int | float) for number in values):
            with suppress(ValueError):
                kept[str(name)] = sum(map(finite, values)) / len(values)
    return kept
