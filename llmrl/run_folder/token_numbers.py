"""Numbers of single tokens that a step has found, as the log of its episodes keeps them, turn by turn.

Few digits, for they are looked at and never learned from; a turn whose tokens all have one advantage keeps one number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from llmrl.samples import Array, Sample
from llmrl.types import Trajectory

ADVANTAGES, GAPS, ENTROPIES = "advantages", "trainer_gaps", "entropies"
DIGITS: Mapping[str, int] = {ADVANTAGES: 6, GAPS: 4, ENTROPIES: 4}
"""Keys of a turn, each with its significant digits."""
TurnNumbers = Mapping[str, float | Sequence[float]]
"""Of a turn: by key a number for each of its tokens, or one for all."""


def short_floats(numbers: Any, digits: int = 9) -> list[float]:
    """Float32 numbers as JSON writes them shortly: rounded to significant digits, of which nine tell them all apart."""
    values = np.asarray(numbers, np.float32).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (digits - 1 - np.floor(np.log10(np.abs(values))))
        rounded = np.rint(values * scale) / scale
    short: list[float] = np.where(np.isfinite(rounded), rounded, values).tolist()  # 0, infinite and NaN stay
    return short


def of_turns(trajectory: Trajectory, samples: Sequence[Sample]) -> list[dict[str, float | list[float]]]:
    """Numbers of each turn of an episode, empty for a turn that nothing was learned from; () where all are.

    Args:
        samples: of the episode, with what models and credit have filled.
    """
    found: list[dict[str, float | list[float]]] = [{} for _ in trajectory.turns]
    for sample in samples:
        numbers = trajectory.turns_of(sample.agent)
        columns = {name: column for name, column in _columns(sample) if column is not None}
        for own in np.unique(sample.turn_ids[sample.action_mask]).tolist() if columns else ():
            chosen, number = sample.turn_ids == own, numbers[own]
            if np.count_nonzero(chosen) != len(trajectory.turns[number].completion.token_ids):
                continue  # its tokens stand in several samples
            found[number] |= {name: _short(name, column[chosen]) for name, column in columns.items()}
    return found if any(found) else []


def from_turn(line: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """The numbers of a turn of the log.

    Raises:
        TypeError, ValueError: they are no numbers, or not one for each token.
    """
    found = {name: line[name] for name in DIGITS if name in line}
    for name, numbers in found.items():
        if isinstance(numbers, list) and len(numbers) != tokens:
            raise ValueError(f"a turn has {tokens} token_ids and {len(numbers)} {name}")
        if not all(isinstance(number, int | float) for number in (numbers if isinstance(numbers, list) else [numbers])):
            raise TypeError(f"{name} is {numbers!r:.80}")
    return found


def _columns(sample: Sample) -> Iterator[tuple[str, Array | None]]:
    """The columns of a sample by the keys of the log."""
    old, sampled = sample.get("old_logprobs"), sample.get("sampled_logprobs")
    known = old is not None and sampled is not None and sample.semantics == "scaled"
    yield ADVANTAGES, sample.get("advantages")
    yield GAPS, np.subtract(old, sampled, dtype=np.float64) if known else None
    yield ENTROPIES, sample.get("old_entropy")


def _short(name: str, column: Array) -> float | list[float]:
    if name == ADVANTAGES and (column == column[0]).all():
        return short_floats(column[:1], DIGITS[name])[0]
    return short_floats(column, DIGITS[name])
