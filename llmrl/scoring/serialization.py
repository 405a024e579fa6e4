"""Trajectories and scores as JSON and back, without loss, for rewards that live in another process."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, TypeVar

from llmrl.errors import DataError, LlmrlError
from llmrl.plugins import did_you_mean
from llmrl.scoring import piecewise_json
from llmrl.trajectories import by_field, compact, to_tree
from llmrl.types import Completion, Problem, Ragged, Score, Trajectory, Turn

T = TypeVar("T")
REQUEST = ("problem", "texts", "trajectories", "trainer_state")
_UNREAD = {"id": "", "messages": []}  # in place of the problem of the request, which is read once
_ADVICE = "send fewer at a time, or start the server with"


@dataclass(frozen=True, slots=True)
class Place:
    """Progress of the run whose answers are scored: rewards that follow a schedule read it."""

    global_step: int = 0
    max_steps: int = 0
    epoch: float = 0.0


def request_to_json(group: Sequence[Trajectory], place: Place) -> bytes:
    """Encode a group to be scored; the problem is written once where all share it.

    Raises:
        DataError: it holds a value that JSON has not, such as NaN or an object in `info`.
    """
    problem = group[0].problem
    shared = all(episode.problem is problem or episode.problem == problem for episode in group)
    body = {
        "problem": by_field(problem),
        "trajectories": [_trajectory(episode, not shared) for episode in group],
        "trainer_state": by_field(place),
    }
    try:
        return json.dumps(body, allow_nan=False, default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"problem {problem.id}: cannot be sent to a reward server: {error}; expected plain values, such as JSON has"
        ) from None


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Bounds of a request to a reward server; None is no bound."""

    texts: int | None = None  # answers
    text_mb: int | None = None  # MiB of their texts together


class TooLargeError(LlmrlError):
    """A request above the limits; the message ends with the option that would let it in."""


def request_from_json(data: bytes, limits: RequestLimits | None = None) -> tuple[list[Trajectory], Place]:
    """Decode a group and its run's progress.

    `texts` alone make trajectories of one turn without tokens; `trajectories` are whole, each with a `problem` of its
    own or the request's.

    Raises:
        TooLargeError: it is above the limits.
        DataError: it is no such request; names the place in it.
    """
    limits = limits or RequestLimits()
    try:
        body = piecewise_json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}") from None
    _known(body, REQUEST, "the request")
    if ("texts" in body) == ("trajectories" in body):
        raise DataError("the request: expected either texts or trajectories")
    place = _read(Place, body.get("trainer_state", {}), "trainer_state")
    problem = _read(Problem, body["problem"], "problem") if "problem" in body else None
    name = "texts" if "texts" in body else "trajectories"
    if not isinstance(body[name], list):
        raise DataError(f"{name}: found {type(body[name]).__name__}; expected a list")
    count = len(body[name])
    if limits.texts is not None and count > limits.texts:
        raise TooLargeError(
            f"{count} texts; expected at most {limits.texts} in a request: {_ADVICE} --max-texts {count}"
        )
    group = [_one(entry, problem, i, f"{name}[{i}]") for i, entry in enumerate(body[name])]
    size = sum(len(turn.text.encode()) for one in group for turn in one.turns) / 2**20
    if limits.text_mb is not None and size > limits.text_mb:
        raise TooLargeError(
            f"texts of {size:.1f} MiB; expected at most {limits.text_mb} MiB in a request: {_ADVICE} "
            f"--max-text-mb {math.ceil(size)}"
        )
    return group, place


def scores_to_json(scores: Iterable[Score]) -> list[dict[str, Any]]:
    """Encode scores with all their fields; one with a number that is not finite becomes an `error` that names it."""
    return [by_field(_finite(score)) for score in scores]


def scores_from_json(data: bytes, expected: int) -> list[Score]:
    """Decode the scores in a reply `{"scores": [...]}`.

    Raises:
        ValueError: it is none, there are more or fewer than expected, or a number is not finite.
    """
    try:
        body = json.loads(data)
        scores = [_read(Score, entry, f"scores[{i}]") for i, entry in enumerate(body["scores"])]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not scores: {type(error).__name__}: {error}") from None
    if len(scores) != expected:
        raise ValueError(f"{len(scores)} scores for {expected} answers; expected one each, in their order")
    for i, score in enumerate(scores):
        if (bad := _not_finite(score)) is not None:
            raise ValueError(f"scores[{i}]: {bad}; expected a finite number or null")
    return scores


def _trajectory(episode: Trajectory, with_problem: bool) -> dict[str, Any]:
    tree = to_tree(episode)
    del tree["score"]
    sent = {f.name: tree[f.name] for f in fields(episode) if f.name in tree and tree[f.name] != f.default}
    return sent | ({"problem": by_field(episode.problem)} if with_problem else {})


def _one(entry: Any, problem: Problem | None, number: int, where: str) -> Trajectory:
    if isinstance(entry, str) and where.startswith("texts"):
        if problem is None:
            raise DataError(f"{where}: no problem, and the request has none either")
        if not entry.isascii() and any("\ud800" <= c <= "\udfff" for c in entry):
            raise DataError(f"{where}: half of a surrogate pair; expected characters, such as UTF-8 has")
        completion = Completion(token_ids=[], logprobs=[], finish="stop", version=0)
        turn = Turn(prompt_ids=[], completion=completion, text=entry)
        return compact(Trajectory(problem=problem, turns=[turn], status="done", episode=number))
    _known(entry, [field.name for field in fields(Trajectory) if field.name != "score"], where)
    shared = "problem" not in entry
    if shared and problem is None:
        raise DataError(f"{where}: no problem, and the request has none either")
    try:
        made = compact(_read(Trajectory, {"problem": _UNREAD, **entry}, where))
    except OverflowError as error:
        raise DataError(f"{where}: a token id or version is no 32-bit integer: {error}") from None
    return (
        replace(made, problem=problem) if shared and problem is not None else made
    )  # one object, however many answers


def _read(cls: type[T], value: Any, where: str) -> T:
    """Build a value of types.py, each field of exactly its type."""
    from pydantic import ValidationError

    _known(value, [field.name for field in fields(cls)], where)  # type: ignore[arg-type]
    try:
        made: T = _adapter(cls).validate_json(json.dumps(value), strict=True)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        at = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise DataError(f"{where}{at}: {first['msg'][0].lower()}{first['msg'][1:]}") from None
    return made


@cache
def _adapter(cls: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _known(value: Any, names: Sequence[str], where: str) -> None:
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: found {type(value).__name__}; expected an object with {', '.join(names)}")
    for key in value:
        if key not in names:
            raise DataError(f"{where}.{key}: unknown key{did_you_mean(key, names)}; known: {', '.join(names)}")


def _plain(value: Any) -> Any:
    """Convert a column to JSON's own types."""
    if isinstance(value, array | Ragged):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _finite(score: Score) -> Score:
    bad = _not_finite(score)
    return (
        score if bad is None else Score(None, "error", reason=f"the reward returned {bad}; {score.reason}".rstrip("; "))
    )


def _not_finite(score: Score) -> str | None:
    """The first number that is not finite, with its name."""
    columns = {"steps": score.steps, "token_rewards": score.token_rewards}
    numbers = [("value", score.value), *((f"parts.{name}", part) for name, part in score.parts.items())]
    numbers += [(name, number) for name, column in columns.items() for number in column or ()]
    return next((f"{name} {n}" for name, n in numbers if n is not None and not math.isfinite(n)), None)
