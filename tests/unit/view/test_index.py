from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from llmrl.run_folder import reader
from llmrl.run_folder.writer import Logs
from llmrl.view import index as index_module
from llmrl.view.index import FILE, STATUSES, VERDICTS, RolloutIndex, places, tail
from tests.view_runs import HOSTILE, write_step


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(folder: Path) -> RolloutIndex:
    index = RolloutIndex(folder / "rollouts.jsonl")
    index.load()
    index.extend()
    return index


def agree(folder: Path, index: RolloutIndex) -> None:
    """The index says of each line what its record says."""
    records = list(reader.episodes(folder))
    assert len(records) == len(index.rows)
    whole = (folder / "rollouts.jsonl").read_bytes()
    for record, row in zip(records, index.rows, strict=True):
        line = json.loads(whole[row["offset"] : row["offset"] + row["length"]])
        played = record.trajectory
        assert (line["step"], line["group"], line["episode"]) == (record.step, played.group, played.episode)
        assert (row["step"], row["episode"], row["tokens"]) == (record.step, played.episode, record.tokens)
        assert VERDICTS[row["verdict"]] == (played.score.verdict if played.score else "")
        assert STATUSES[row["status"]] == played.status
        assert bool(row["truncated"]) == played.truncated
        assert row["advantage"] == np.float32(record.advantage)
        assert played.earned is None or row["reward"] == np.float32(played.earned)
        assert row["known"]


def test_it_says_what_the_records_say(tmp_path: Path) -> None:
    for step in range(3):
        write_step(
            tmp_path,
            step,
            9,
            texts=[*HOSTILE, '],"tokens":9,"truncated":true,"version":0,"reward":7,"verdict":"correct",'],
        )
    index = made(tmp_path)
    agree(tmp_path, index)
    assert index.rows["row"].tolist() == [*range(9)] * 3
    assert index.rows["group"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2] * 3


def test_it_grows_with_the_file_and_is_found_again(tmp_path: Path) -> None:
    write_step(tmp_path, 0, 6)
    index = made(tmp_path)
    assert index.save() == tmp_path / FILE
    assert index.save() is None, "nothing is new"
    write_step(tmp_path, 1, 5)
    again = RolloutIndex(tmp_path / "rollouts.jsonl")
    again.load()
    assert len(again.rows) == 6
    assert again.extend()
    assert not again.extend()
    agree(tmp_path, again)
    assert again.rows["row"].tolist() == [*range(6), *range(5)]


def test_a_step_that_is_written_in_two_parts_goes_on(tmp_path: Path) -> None:
    write_step(tmp_path, 0, 8)
    path = tmp_path / "rollouts.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in (2, 4, 7):
        path.write_bytes(b"".join(lines[:cut]) + lines[cut][:50])  # the writer is in the midst of a line
        index = made(tmp_path)
        assert len(index.rows) == cut
        path.write_bytes(whole)
        assert index.extend()
        agree(tmp_path, index)
        assert index.rows["group"].tolist() == [0] * 4 + [1] * 4


def test_a_run_that_went_back_is_read_again_from_there(tmp_path: Path) -> None:
    for step in range(5):
        write_step(tmp_path, step, 4)
    index = made(tmp_path)
    index.save()
    logs = Logs(tmp_path, writes=True, share=1.0)
    logs.forget_from(3)
    write_step(tmp_path, 3, 4, texts=["another answer"] * 4)
    write_step(tmp_path, 4, 8)
    write_step(tmp_path, 5, 8)
    for grown in (index, made(tmp_path)):
        assert grown.extend() or grown is not index
        agree(tmp_path, grown)
    logs.forget_from(0)
    assert index.extend()
    assert not len(index.rows)


def test_lines_of_others_are_read_and_broken_ones_are_passed_over(tmp_path: Path) -> None:
    write_step(tmp_path, 4, 2)
    path = tmp_path / "rollouts.jsonl"
    first, second = path.read_text().splitlines()
    spaced = json.dumps(json.loads(second))  # as version 0.1.0 and other writers space it
    huge = first.replace('"step":4', '"step":99999999999')
    path.write_text("\n".join([first, spaced, "{broken", "[]", huge, first]) + "\n")
    index = made(tmp_path)
    assert index.rows["known"].tolist() == [1, 1, 0, 0, 0, 1]
    assert index.rows["step"].tolist() == [4] * 6
    assert index.rows["tokens"][1] == json.loads(second)["tokens"]


@pytest.mark.parametrize(
    "damage", [b"", b"nonsense", b"llmrl rollouts index 1\nabc", b"llmrl rollouts index 1\n" + b"\1" * 96]
)
def test_a_damaged_index_is_made_anew(damage: bytes, tmp_path: Path) -> None:
    write_step(tmp_path, 0, 4)
    (tmp_path / FILE).write_bytes(damage)
    index = made(tmp_path)
    agree(tmp_path, index)
    index.save()
    assert len(made(tmp_path).rows) == 4


def test_where_the_folder_cannot_be_written_the_cache_keeps_it(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    write_step(folder, 0, 4)
    index = made(folder)
    beside, elsewhere = places(index.path)
    original = os.replace

    def refuse(source: Path, target: Path) -> None:
        if target == beside:
            raise PermissionError("read-only")
        original(source, target)

    monkeypatch.setattr(index_module.os, "replace", refuse)  # tests may run as root, which no mode stops
    assert index.save() == elsewhere
    assert elsewhere.is_relative_to(cache)
    assert not [path for path in folder.iterdir() if "partial" in path.name]
    again = RolloutIndex(index.path)
    again.load()
    assert len(again.rows) == 4


def test_the_last_steps_are_there_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(6):
        write_step(tmp_path, step, 4)
    index, path = made(tmp_path), tmp_path / "rollouts.jsonl"
    sizes = [int(index.rows["length"][index.rows["step"] == step].sum()) for step in range(6)]
    monkeypatch.setattr(index_module, "TAIL_BYTES", (10, sizes[5] + sizes[4] + sizes[3] // 2))
    last = tail(path)
    assert last["step"].tolist() == [4] * 4 + [5] * 4, "step 3 is there in part, and left out"
    assert (
        last[["offset", "length", "row", "group", "episode"]]
        == index.rows[-8:][["offset", "length", "row", "group", "episode"]]
    ).all()
    monkeypatch.setattr(index_module, "TAIL_BYTES", (10,))
    assert not len(tail(path))
    monkeypatch.setattr(index_module, "TAIL_BYTES", (1 << 30,))
    assert len(tail(path)) == 24


def test_reading_can_be_stopped_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "BUFFER", 64)  # a report after 2 KiB
    for step in range(4):
        write_step(tmp_path, step, 8)
    index = RolloutIndex(tmp_path / "rollouts.jsonl")
    seen: list[int] = []
    index.extend(lambda done, size: seen.append(done) or done < size // 2)
    assert 0 < len(index.rows) < 32
    index.extend()
    agree(tmp_path, index)
    assert seen == sorted(seen)


def test_a_file_that_is_gone_has_no_rows(tmp_path: Path) -> None:
    write_step(tmp_path, 0, 4)
    index = made(tmp_path)
    (tmp_path / "rollouts.jsonl").unlink()
    assert index.extend()
    assert not len(index.rows)
    assert not index.extend()
