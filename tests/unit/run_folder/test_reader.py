"""The reader: lazy, tolerant of what a kill leaves, and clear about everything else."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmrl.errors import DataError
from llmrl.run_folder import reader
from llmrl.run_folder.records import EpisodeRecord
from llmrl.run_folder.writer import Logs
from llmrl.types import Score, Trajectory
from tests import builders


def played(step: int, tokens: int = 2) -> Trajectory:
    turn = builders.turn("2", [5] * tokens, prompt=[1], logprobs=[-1.0] * tokens, version=step)
    return builders.episode(turn, score=Score(1.0, "correct"), group=f"{step}/p")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    logs = Logs(tmp_path, writes=True, share=1.0)
    for step in range(3):
        logs.metrics(step, {"reward": step / 2})
        logs.rollouts(step, [[played(step)]], [])
    return tmp_path


def test_a_folder_or_its_files(folder: Path) -> None:
    for place in (folder, folder / "metrics.jsonl"):
        assert [(one.step, one.metrics) for one in reader.steps(place)] == [(i, {"reward": i / 2}) for i in range(3)]
    for place in (folder, folder / "rollouts.jsonl"):
        assert [(one.step, one.trajectory.group) for one in reader.episodes(place)] == [(i, f"{i}/p") for i in range(3)]


@pytest.mark.parametrize("kept", [1, 5, 40, -2])
def test_a_last_line_that_a_kill_cut_off_is_no_error(folder: Path, kept: int) -> None:
    for name, read in (("metrics.jsonl", reader.steps), ("rollouts.jsonl", reader.episodes)):
        path = folder / name
        *before, last = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(before) + last[: min(kept, len(last) - 2)])
        found: Iterator[object] = read(folder)
        assert len(list(found)) == 2


def test_a_whole_last_line_without_its_end_is_a_line(folder: Path) -> None:
    path = folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert [one.step for one in reader.steps(folder)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "not JSON: "),
        ("[]", "TypeError: "),
        ('{"reward": 1.0}', "no 'step' in it"),
        ('{"step": 1.5}', r"TypeError: step is 1\.5"),
        ('{"step": 1, "rew', "not JSON: "),  # cut off, but not the last
    ],
)
def test_a_line_that_is_none_is_named_with_its_number(folder: Path, line: str, words: str) -> None:
    path = folder / "metrics.jsonl"
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([first, line, *others]) + "\n")
    expected = (
        rf"metrics\.jsonl:2: {words}.*; expected what a run writes to its metrics\.jsonl: see docs/run_folder\.md"
    )
    with pytest.raises(DataError, match=expected):
        list(reader.steps(folder))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no rollouts\.jsonl; expected the folder of a run, such as runs/demo"):
        next(reader.episodes(tmp_path))
    with pytest.raises(DataError, match=r"none\.jsonl: no such file; expected what a run writes to its metrics\.jsonl"):
        next(reader.steps(tmp_path / "none.jsonl"))
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(DataError, match=r"metrics\.jsonl: cannot be read: Is a directory"):
        next(reader.steps(tmp_path))


def test_a_long_log_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    logs = Logs(tmp_path, writes=True, share=1.0)
    logs.rollouts(0, [[played(0, tokens=5_000) for _ in range(40)]], [])
    size = (tmp_path / "rollouts.jsonl").stat().st_size
    tracemalloc.start()
    try:
        records = reader.episodes(tmp_path)
        assert isinstance(next(records), EpisodeRecord)
        assert sum(record.tokens for record in records) == 39 * 5_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 40 * len(json.dumps([5] * 5_000).replace(" ", "")) < size
    assert peak < size / 2
