"""Python objects in place of plug-ins: a reward, rows and an environment that no file holds.

What a fresh process can import goes into the recipe by its place, `package.module:attribute`, and the command line
takes the recipe as well. Anything else, from a notebook, a script or a closure, is held by a plug-in of this module,
which writes down its place and its source: the recipe can be read and compared, and asked to play it says what is lost.
"""

from __future__ import annotations

import asyncio
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from importlib.machinery import PathFinder
from typing import Any, Self

from llmrl.data.jsonl import Jsonl
from llmrl.datafiles.rows import Row, problems
from llmrl.errors import DataError, LlmrlError, RecipeError, RewardError
from llmrl.plugins import Kind, find, name_of
from llmrl.protocols import Composite, Dataset, EnvFactory, Reward
from llmrl.run_folder.manifest import data_hash
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.scoring.raised import raised
from llmrl.scoring.trl_functions import parameters_of
from llmrl.types import Problem, Score, Trajectory


def as_plugin(kind: Kind, value: Any) -> Any:
    """The plug-in that a Python object stands for; specs, and plug-ins that a fresh process finds, as they are.

    Args:
        kind: `data`: a list of rows or problems, a `datasets.Dataset`, or `{"rows": ..., "prompt_column": ...}`.
            `reward`: a function or an object with `score`. `env`: a class with reset, step and close, or a factory.
    Raises:
        RecipeError: the object cannot be one.
        DataError: a row is broken; names its number.
    """
    if isinstance(value, Mapping) and kind == "data" and "rows" in value and "name" not in value:
        options = dict(value)
        return PythonRows.of(options.pop("rows"), **options)
    if value is None or isinstance(value, str | Mapping):
        return value
    if kind == "data":
        return value if _shaped(value, Dataset) else PythonRows.of(value)
    if kind == "env":
        return value if _shaped(value, EnvFactory) else PythonEnv.of(value)
    return value if _importable(kind, value) else PythonReward.of(value)


def _shaped(value: Any, protocol: Any) -> bool:
    """True for a plug-in as files have them, a dataclass with options, that a fresh process can import."""
    return is_dataclass(value) and isinstance(value, protocol) and _on_path(type(value).__module__)


def _on_path(module: str) -> bool:
    """True where a fresh process finds a module: by the path, and not because this one has made it."""
    return module != "__main__" and PathFinder.find_spec(module.partition(".")[0]) is not None


def _importable(kind: Kind, value: Any) -> bool:
    """True for what a fresh process finds by its name."""
    name = name_of(kind, value)
    if ":" in name and (not _on_path(name.partition(":")[0]) or "<" in name):
        return False
    try:
        found = find(kind, name)
    except LlmrlError:
        return False
    return found is (type(value) if is_dataclass(value) and not isinstance(value, type) else value)


def _place(value: Any) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}:{named.__qualname__}"


def _source(value: Any) -> str:
    """The source of a function, a class, or the class of an object; "" where none is known, as behind `python -c`.

    That of a lambda is the statement in which it stands, and would change with it.
    """
    named = value if hasattr(value, "__qualname__") else type(value)
    if named.__name__ == "<lambda>":
        return ""
    try:
        return textwrap.dedent(inspect.getsource(named)).rstrip()
    except (OSError, TypeError):
        return ""


def _lost(kind: str, place: str) -> str:
    return (
        f"{kind} {place}: it was a Python object of the process that began the run, of which the recipe keeps the name "
        f"and the source; give it again: llmrl.train(..., {kind}=...)"
    )


@dataclass(frozen=True)
class _Held:
    """An object that Python code has given; a recipe keeps its place and its source."""

    place: str  # module and name
    source: str = ""
    _object: Any = field(default=None, init=False, compare=False, repr=False)

    @classmethod
    def of(cls, value: Any) -> Self:
        """Hold an object."""
        held = cls(_place(value), _source(value))
        object.__setattr__(held, "_object", value)
        return held


@dataclass(frozen=True)
class PythonReward(_Held):
    """A reward that Python code has given: see `llmrl.scoring.manager.as_group_reward` for what can be one."""

    def as_group_reward(self, pool: GradingPool) -> Any:
        """The reward, ready to score.

        Raises:
            RewardError: it is none, or it was given to a process that is no more.
        """
        if self._object is None:
            raise RewardError(_lost("reward", self.place))
        reward = self._object
        if not isinstance(reward, Reward | Composite):
            if list(parameters_of(reward))[:1] == ["problem"]:
                reward = _Here(reward)
            elif not {"completions", "completion_ids"}.isdisjoint(parameters_of(reward)):
                reward = _unpickled(reward)
        return as_group_reward(reward, pool)


def _unpickled(function: Any) -> Any:
    """The function as one that runs in a thread of this process: no other could import it."""

    def held(**columns: Any) -> Any:
        return function(**columns)

    held.__name__ = getattr(function, "__name__", type(function).__name__)
    held.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return held


class _Here:
    """Scores by a verifier in a thread of this process: no other process could import it."""

    def __init__(self, verifier: Any) -> None:
        self._verifier = verifier
        self.__name__ = getattr(verifier, "__name__", type(verifier).__name__)

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        return [await asyncio.to_thread(self._one, trajectory) for trajectory in group]

    def _one(self, trajectory: Trajectory) -> Score:
        try:
            score: Score = self._verifier(trajectory.problem, trajectory.written)
        except (Exception, SystemExit) as error:  # a failure is counted, as of any verifier
            return Score(
                None, "error", reason=f"problem {trajectory.problem.id}: {self.__name__} raised {raised(error)}"
            )
        return score


@dataclass(frozen=True)
class PythonRows:
    """Problems that Python code has given."""

    rows: int
    sha256: str  # of the problems: the same data is known again
    _problems: Sequence[Problem] | None = field(default=None, init=False, compare=False, repr=False)

    @classmethod
    def of(cls, rows: Any, **columns: Any) -> Self:
        """Hold rows: dictionaries with the columns that data `jsonl` reads, or problems.

        Args:
            columns: options of data `jsonl`: `prompt_column`, `answer_column`, `id_column`, `instruction`.
        Raises:
            RecipeError: these are no rows.
            DataError: one is broken, or there are none.
        """
        if not isinstance(rows, Iterable) or isinstance(rows, str | bytes | Mapping):
            found = f"{type(rows).__name__} {rows!r:.60}"
            raise RecipeError(f"data: expected a list of rows, or a datasets.Dataset; found {found}")
        reader = Jsonl(path="row", **columns)
        made = list(problems(reader.resolved(_numbered(rows)), reader.problem)) if not _made(rows) else list(rows)
        if not made:
            raise DataError("data: no rows; expected at least one")
        held = cls(len(made), data_hash(made))
        object.__setattr__(held, "_problems", made)
        return held

    def problems(self) -> Iterator[Problem]:
        """The problems, in their order.

        Raises:
            DataError: they were given to a process that is no more.
        """
        if self._problems is None:
            raise DataError(_lost("data", f"({self.rows} rows)"))
        return iter(self._problems)


def _made(rows: Iterable[Any]) -> bool:
    return isinstance(rows, Sequence) and bool(rows) and all(isinstance(row, Problem) for row in rows)


def _numbered(rows: Iterable[Any]) -> Iterator[Row]:
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(
                f"data: row {index}: found {type(row).__name__}; expected a dictionary with a prompt, or llmrl.Problem"
            )
        yield Row(dict(row), f"data: row {index}", index)


@dataclass(frozen=True)
class PythonEnv(_Held):
    """An environment that Python code has given."""

    @classmethod
    def of(cls, env: Any) -> Self:
        """Hold an environment: a factory with `make(problem)`, or a class, of which each episode gets an instance.

        Raises:
            RecipeError: it is neither.
        """
        missing = [name for name in ("reset", "step", "close") if not callable(getattr(env, name, None))]
        if not isinstance(env, EnvFactory) and (missing or not callable(env)):
            raise RecipeError(
                f"env: {_place(env)} has no {', '.join(missing) or 'constructor'}; expected a class with async reset, "
                "step and close, which is called with the problem, or an object with make(problem)"
            )
        return super().of(env)

    def make(self, problem: Problem) -> Any:
        """An environment for an episode.

        Raises:
            RecipeError: it was given to a process that is no more.
        """
        if self._object is None:
            raise RecipeError(_lost("env", self.place))
        return self._object.make(problem) if isinstance(self._object, EnvFactory) else self._object(problem)

    def __getattr__(self, name: str) -> Any:
        """Options of environments that not all have: `isolation`, `max_open_envs`, `restores`, `first_messages`."""
        if name.startswith("_") or self._object is None:
            raise AttributeError(name)
        return getattr(self._object, name)
