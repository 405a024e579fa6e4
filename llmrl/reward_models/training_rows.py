"""Read rows that reward models learn from and are judged by, by the layout of their columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmrl.errors import DataError
from llmrl.plugins import did_you_mean
from llmrl.reward_models import episodes, preferences, stepwise
from llmrl.reward_models.rows import AnswerRow, LabelledRow, PreferencePair, Rows

READERS: Mapping[str, Callable[..., Rows[Any]]] = {
    "preference": preferences.pairs,
    "outcome": preferences.outcomes,
    "stepwise": stepwise.stepwise,
    "prm800k": stepwise.prm800k,
    "first_error": stepwise.first_error,
    "rollouts": episodes.labelled,
    "rollout_pairs": episodes.pairs,
}


def read(
    columns: str,
    path: str | Path,
    limit: int | None = None,
    neutral_as: stepwise.Neutral = "positive",
) -> Rows[Any]:
    """Read the rows of a file, each a `PreferencePair` or a `LabelledRow`, and count those left out.

    Args:
        columns: their layout, a key of `READERS`.
        path: .jsonl, .json or .parquet.
        limit: the first rows only.
        neutral_as: PRM800K's rating 0.
    Raises:
        DataError: unknown columns, the rows cannot be read, or there are none.
    """
    if columns not in READERS:
        raise DataError(f"columns {columns!r}{did_you_mean(columns, READERS)}; expected one of {', '.join(READERS)}")
    reader = READERS[columns]
    options = {"neutral_as": neutral_as} if columns == "prm800k" else {}
    rows = reader(path, limit=limit, **options)
    if not rows.kept:
        raise DataError(f"{path}: no row of use; left out: {dict(rows.rejected) or 'none'}")
    return rows


def answers_of(row: PreferencePair | LabelledRow) -> list[AnswerRow]:
    """Answers of a row: two of a pair, else one."""
    return [row.chosen, row.rejected] if isinstance(row, PreferencePair) else [row.answer]
