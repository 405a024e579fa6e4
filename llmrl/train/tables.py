"""Tables of completions for trackers that show text: W&B, Trackio, ClearML and TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import islice, zip_longest
from typing import Any

import numpy as np

from llmrl.samples import Sample
from llmrl.types import Trajectory

NAME = "completions"
COLUMNS = ("step", "prompt", "completion", "reward", "advantage", "verdict", "reason")
LONGEST = 4000
"""Characters of a prompt or a completion; in longer ones the middle is left out."""
Row = list[Any]


def log_completions(trackers: Sequence[Any], step: int, rows: Sequence[Row]) -> None:
    """Give the rows of a step to each tracker that has tables or texts; to the others nothing."""
    for tracker in trackers if rows else ():
        if tracker.name in _TABLES:
            _TABLES[tracker.name](tracker, step, rows)


def completions(step: int, groups: Sequence[Sequence[Trajectory]], samples: Sequence[Sample], most: int) -> list[Row]:
    """Rows of `COLUMNS` for the first episodes of the step, of as many groups as there are rows."""
    if not most:
        return []
    credit = {(row.played_in, row.episode): _farthest(row) for row in samples}
    in_turn = (episode for turn in zip_longest(*groups) for episode in turn if episode is not None)
    chosen = islice(in_turn, most)
    return [_row(step, episode, credit.get((episode.group, episode.episode))) for episode in chosen]


def _row(step: int, episode: Trajectory, advantage: float | None) -> Row:
    shown = episode.problem.messages if episode.shown is None else episode.shown
    prompt = "\n".join(f"{message.get('role')}: {message.get('content') or ''}" for message in shown)
    said = "\n".join(turn.opened + turn.text for turn in episode.turns)
    score = episode.score
    judged = ("", "") if score is None else (score.verdict or "", score.reason)
    return [step, _cut(prompt), _cut(said), episode.earned, advantage, *judged]


def _farthest(row: Sample) -> float | None:
    """The advantage of its tokens that is farthest from 0."""
    advantages = row.get("advantages")
    return None if advantages is None or not len(advantages) else float(advantages[np.abs(advantages).argmax()])


def _cut(text: str) -> str:
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} ... {text[-half:]}"


def _library_table(tracker: Any, step: int, rows: Sequence[Row]) -> None:
    """The table of a tracker for which Accelerate has one."""
    tracker.log_table(NAME, columns=list(COLUMNS), data=[list(row) for row in rows], step=step)


def _trackio(tracker: Any, step: int, rows: Sequence[Row]) -> None:
    import pandas  # type: ignore[import-untyped]
    import trackio  # type: ignore[import-not-found]

    tracker.run.log({NAME: trackio.Table(dataframe=pandas.DataFrame(rows, columns=list(COLUMNS)))}, step=step)


def _tensorboard(tracker: Any, step: int, rows: Sequence[Row]) -> None:
    """The rows as text in Markdown, in which no sign of the texts is one of the table or of HTML."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    tracker.writer.add_text(NAME, "\n".join(lines), global_step=step)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "" if value is None else escape(str(value), quote=False)
    for sign, written in (("|", "&#124;"), ("`", "&#96;"), ("\n", "<br>"), ("\r", "")):
        text = text.replace(sign, written)
    return text


_TABLES: Mapping[str, Callable[[Any, int, Sequence[Row]], None]] = {
    "wandb": _library_table,
    "clearml": _library_table,
    "trackio": _trackio,
    "tensorboard": _tensorboard,
}
