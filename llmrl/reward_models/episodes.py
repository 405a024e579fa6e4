"""Rows for reward models from a run's own `rollouts.jsonl`: labelled answers, and pairs of a group's best and worst."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path

from llmrl.reward_models.rows import AnswerRow, LabelledRow, PreferencePair, Rows
from llmrl.run_folder import reader
from llmrl.run_folder.records import EpisodeRecord
from llmrl.scoring.transcript import opening
from llmrl.types import Trajectory


def labelled(path: str | Path, limit: int | None = None) -> Rows[LabelledRow]:
    """Read a run's answers: label 1 for a right one, 0 for any other. Those that nobody judged are left out.

    Raises:
        DataError: a line is no record of an episode; names file and line.
    """
    rows: Rows[LabelledRow] = Rows([])
    for record in islice(reader.episodes(Path(path)), limit):
        played = record.trajectory
        correct = played.score.correct if played.score else None
        if reason := "not judged right or wrong" if correct is None else _unusable(played):
            rows.rejected[reason] += 1
            continue
        rows.kept.append(LabelledRow(answer=_answer(played), labels=[float(bool(correct))], problem=played.problem.id))
    return rows


def pairs(path: str | Path, limit: int | None = None) -> Rows[PreferencePair]:
    """Read a run's groups: of each the answers with the highest and the lowest reward, and the margin between them.

    Args:
        path: a `rollouts.jsonl`.
        limit: the first groups only.
    Raises:
        DataError: a line is no record of an episode; names file and line.
    """
    rows: Rows[PreferencePair] = Rows([])
    for group in islice(_groups(Path(path)), limit):
        scored = [(played.earned, played) for played in group if played.earned is not None and not _unusable(played)]
        ordered = sorted(scored, key=lambda each: each[0])
        if not ordered or ordered[0][0] == ordered[-1][0]:
            rows.rejected["no two answers of a group with different rewards"] += 1
            continue
        (low, rejected), (high, chosen) = ordered[0], ordered[-1]
        rows.kept.append(
            PreferencePair(
                chosen=_answer(chosen), rejected=_answer(rejected), margin=high - low, problem=chosen.problem.id
            )
        )
    return rows


def _groups(path: Path) -> Iterator[list[Trajectory]]:
    """Episodes of each group of each step, which stand together."""

    def key(record: EpisodeRecord) -> tuple[int, str]:
        return record.step, record.trajectory.group

    for _, records in groupby(reader.episodes(path), key):
        yield [record.trajectory for record in records]


def _answer(played: Trajectory) -> AnswerRow:
    return AnswerRow(prompt=list(opening(played)), response=played.text)


def _unusable(played: Trajectory) -> str:
    """Say why an episode is no answer to a prompt; "" for one that is."""
    if len(played.turns) != 1:
        return "not a single answer"
    return "" if played.text.strip() else "empty response"
