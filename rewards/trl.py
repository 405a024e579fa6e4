"""A reward written for TRL that needs options: made by a factory, or a function with arguments of its own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from llmrl.scoring.foreign import Named
from llmrl.scoring.manager import GradingPool, GroupScorer
from llmrl.scoring.trl_functions import RESERVED, FunctionReward, parameters_of
from llmrl.scoring.wrapped import Shaped
from llmrl.types import Score, Trajectory


@dataclass(frozen=True, kw_only=True)
class Trl:
    """Values of a function in TRL's form, called with `kwargs` too, or of the function that a factory makes of them.

    `{name: trl, function: trl.rewards:get_soft_overlong_punishment, kwargs: {max_completion_len: 512,
    soft_punish_cache: 128}}`. A function in TRL's form has a parameter `completions` or `completion_ids`; anything else
    is a factory. It is made anew in each worker process, so that it may return a closure.

    Raises:
        RecipeError: the function cannot be imported, or the factory raises or makes no such function.
    """

    function: str  # package.module:attribute
    kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    correct_at: float | None = None  # from which value on an answer is right; null: the value gives no verdict

    def __post_init__(self) -> None:
        if taken := [name for name in RESERVED if name in self.kwargs]:
            raise ValueError(f"kwargs.{taken[0]}: each call gets its own; expected other arguments of the function")
        _ = Made(Named(self.function, "function"), self.kwargs).func

    def as_group_reward(self, pool: GradingPool) -> GroupScorer:
        """Make the group reward."""
        name = Named(self.function, "function")
        made = Made(name, self.kwargs)
        return Shaped(
            FunctionReward(name.short, function=made, pool=pool, trainer_state=pool.trainer_state), self._shape
        )

    def _shape(self, trajectory: Trajectory, score: Score) -> Score:
        if self.correct_at is None or score.value is None:
            return score
        return Score(score.value, "correct" if score.value >= self.correct_at else "wrong")


@dataclass(frozen=True)
class Made:
    """A function in TRL's form, made again wherever it is unpickled."""

    named: Named
    kwargs: Mapping[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        return Made, (self.named, dict(self.kwargs))  # each worker has a copy

    @cached_property
    def func(self) -> Any:
        """The function itself, without the arguments that every call gets."""
        given = self.named.function
        if _trl(given):
            return given
        try:
            made = given(**deepcopy(dict(self.kwargs)))
        except Exception as error:  # somebody else's code
            raise ValueError(f"function {self.named.name!r} raised {type(error).__name__}: {error}") from error
        if not callable(made) or not _trl(made):
            raise ValueError(
                f"function {self.named.name!r} has no parameter completions or completion_ids, and made "
                f"{made!r:.80}; expected a function in TRL's form, or a factory of one"
            )
        return made

    @property
    def __signature__(self) -> inspect.Signature:  # the parameters decide which columns are passed
        return inspect.signature(self.func)

    def warm_up(self) -> None:
        """Import the module, outside the first item's time."""
        _ = self.func

    def __call__(self, **columns: Any) -> Any:
        if self.func is not self.named.function:
            return self.func(**columns)
        if taken := sorted(self.kwargs.keys() & columns.keys() - {"answer", "solution", "id"}):
            raise ValueError(f"kwargs.{taken[0]}: the data has a column of that name; rename one of them")
        return self.func(**{**columns, **deepcopy(dict(self.kwargs))})


def _trl(function: Any) -> bool:
    return not {"completions", "completion_ids"}.isdisjoint(parameters_of(function))


plugin = Trl
