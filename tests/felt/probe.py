"""Feel an option: use its owner twice, with another value the second time, and see that something else comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import Field, dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import torch

from llmrl.columns import Columns
from llmrl.errors import LlmrlError
from llmrl.plugins import construct

Options = Mapping[str, Any]
Values = Mapping[str, Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The smallest real use of a class of options.

    Args:
        use: the owner, made with options, to what comes of it: numbers and texts, never the options themselves.
        base: options beside which each field is tried.
        values: other values of a field than those that its type tells.
        only: feel the fields in `values` alone; the use is dear.
        refusals: a refusal is a result like any other, of a field that decides what is refused.
    """

    use: Callable[[Any], Any]
    base: Options = field(default_factory=dict)
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    only: bool = False
    refusals: bool = False

    def result(self, owner: type, changes: Options) -> str:
        """Result of the owner with these options besides those of the base, as text."""
        try:
            return seen(self.use(construct(owner, {**self.base, **changes}, owner.__name__)))
        except LlmrlError as error:
            if not self.refusals:
                raise
            return type(error).__name__


def felt(owner: type, probes: Sequence[Probe]) -> set[str]:
    """Names of the fields that change what comes of the owner, in one of its uses.

    Raises:
        AssertionError: twice the same options give two results, so that no change says anything.
    """
    found: set[str] = set()
    for probe in probes:
        left = [each for each in open_fields(owner) if each.name not in found]
        left = [each for each in left if not probe.only or each.name in probe.values]
        if not left:
            continue
        made = construct(owner, probe.base, owner.__name__)
        before, again = probe.result(owner, {}), probe.result(owner, {})
        assert before == again, f"{owner.__name__}: two results of the same options: {_parting(before, again)}"
        for each in left:
            if any(result != before for result in _others(owner, probe, each, getattr(made, each.name))):
                found.add(each.name)
    return found


def open_fields(owner: type) -> list[Field[Any]]:
    """Fields that a recipe can set."""
    return [each for each in fields(owner) if each.init]


def _others(owner: type, probe: Probe, each: Field[Any], value: Any) -> Iterator[str]:
    """Results with other values of a field; those that are refused are none."""
    given = probe.values.get(each.name)
    for other in given if given is not None else other_values(get_type_hints(owner)[each.name], value):
        with suppress(LlmrlError):
            yield probe.result(owner, {each.name: other})


def other_values(hint: Any, value: Any) -> Iterator[Any]:
    """Values of a type that are not this one: the other truth, the other words, numbers around and far from it."""
    kinds = {kind for kind in (hint, *get_args(hint)) if isinstance(kind, type)}
    if bool in kinds:
        yield from (truth for truth in (not value, bool(value)) if truth is not value)
    elif int in kinds or float in kinds:
        now = 0 if value is None or isinstance(value, str) else value
        near = (
            (now + 1, 2 * now, 1, 2, 3, 0, 5, 20) if float not in kinds else (now / 2, now + 0.25, 0.5, 0.1, 2.0, 0.0)
        )
        yield from (number for number in dict.fromkeys(near) if number != value)
    yield from (word for word in _words(hint) if word != value)


def _words(hint: Any) -> Iterator[Any]:
    for part in get_args(hint):
        yield from (part,) if get_origin(hint) is Literal else _words(part)


def seen(result: Any) -> str:
    """A result as text, to the last digit."""
    return repr(_plain(result))


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().double().tolist()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(repr, map(_plain, value)))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(entry) for entry in value]
    if isinstance(value, Columns):
        return _plain(value.columns)
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if value is None or isinstance(value, bool | int | float | str | bytes | Enum):
        return value
    raise AssertionError(f"{type(value).__name__} {value!r:.80}: no number and no text")


def _parting(one: str, other: str) -> str:
    """Find where two texts part."""
    at = next((i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0)
    return f"{one[max(0, at - 120) : at + 40]!r} and {other[at : at + 40]!r}"
