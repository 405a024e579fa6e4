"""Features of problems, as points of a space in which near means alike: for curricula."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llmrl.datafiles.pass_rates import pass_rates
from llmrl.errors import DataError
from llmrl.samples import Array
from llmrl.types import Problem

LENGTH, PASS_RATE = "length", "pass_rate"
"""Names of features that every problem has: the logarithm of its characters, and its pass rate in `records`."""
MOST_COLUMNS = 4
"""Columns that the texts of a feature become: their principal components, where there are more texts."""
MOST_TEXTS = 64
"""Texts of a feature."""


def features(problems: Sequence[Problem], names: Sequence[str], records: str | None = None) -> Array:
    """(n, d) the named features side by side, each column from 0 to 1.

    Args:
        names: `length`, `pass_rate`, or keys of `Problem.info`: numbers are a column, texts several.
        records: a file of `llmrl eval` with a policy's answers to the same problems; for `pass_rate`.
    Raises:
        DataError: a problem has no such key or no judged answer, or a value is neither number nor text.
    """
    columns = [_scaled(_feature(problems, name, records)) for name in names]
    return np.concatenate(columns, axis=1)


def families(problems: Sequence[Problem], key: str) -> tuple[list[str], Array]:
    """The distinct values of a key of `Problem.info`, sorted, and (n,) the number of each problem's.

    Raises:
        DataError: a problem has no such key.
    """
    values = [str(value) for value in _values(problems, key)]
    known = sorted(set(values))
    numbers = {value: number for number, value in enumerate(known)}
    return known, np.array([numbers[value] for value in values])


def _feature(problems: Sequence[Problem], name: str, records: str | None) -> Array:
    """(n, columns) of a feature."""
    if name == LENGTH:
        return np.log([[1.0 + sum(len(str(m["content"])) for m in problem.messages)] for problem in problems])
    if name == PASS_RATE:
        return _pass_rates(problems, records)
    values = _values(problems, name)
    if all(isinstance(value, int | float) for value in values):
        return np.array(values, float)[:, None]
    if not all(isinstance(value, str) for value in values):
        kinds = ", ".join(sorted({type(value).__name__ for value in values}))
        raise DataError(f"feature {name!r}: the problems hold {kinds}; expected numbers, or texts")
    known, numbers = families(problems, name)
    if len(known) > MOST_TEXTS:
        raise DataError(f"feature {name!r}: {len(known)} texts; expected at most {MOST_TEXTS}, such as topics")
    return _reduced(np.eye(len(known))[numbers])


def _values(problems: Sequence[Problem], key: str) -> list[object]:
    for problem in problems:
        if key not in problem.info:
            raise DataError(
                f"problem {problem.id}: its info has no {key!r}, which the curriculum reads; known: "
                f"{', '.join([LENGTH, PASS_RATE, *problem.info])}"
            )
    return [problem.info[key] for problem in problems]


def _pass_rates(problems: Sequence[Problem], records: str | None) -> Array:
    if records is None:
        raise DataError(
            f"feature {PASS_RATE!r} without records; expected a file of judged answers: llmrl eval --samples 16"
        )
    rates = pass_rates(Path(records))
    unknown = [problem.id for problem in problems if problem.id not in rates]
    if unknown:
        raise DataError(
            f"{records}: no judged answer of {len(unknown)} of {len(problems)} problems, the first {unknown[0]!r}; "
            "expected the records of an evaluation of the same dataset"
        )
    return np.array([[float(rates[problem.id])] for problem in problems])


def _reduced(columns: Array) -> Array:
    """At most MOST_COLUMNS principal components, each with its largest entry above 0, so that their signs are fixed."""
    if columns.shape[1] <= MOST_COLUMNS:
        return columns
    _, _, axes = np.linalg.svd(columns - columns.mean(axis=0), full_matrices=False)
    axes = axes[:MOST_COLUMNS]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    return np.asarray(columns @ (axes * signs[:, None]).T)


def _scaled(columns: Array) -> Array:
    """Each column from 0 to 1; one that does not vary is 0."""
    low, span = columns.min(axis=0), np.ptp(columns, axis=0)
    return np.asarray((columns - low) / np.where(span > 0, span, 1.0))
