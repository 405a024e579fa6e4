"""docs/run_folder.md: its examples run, its lines are lines, and its tables name every key that is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from llmrl.run_folder.records import EpisodeRecord, StepRecord
from tests.unit.run_folder.test_records import EPISODES, NUMBERS, SCORE, record

PAGE = (Path(__file__).parents[3] / "docs" / "run_folder.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step, episode = blocks("json")
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "metrics.jsonl").write_text(step)
    wrong = episode.replace('"verdict":"correct"', '"verdict":"wrong"')
    (tmp_path / "runs" / "demo" / "rollouts.jsonl").write_text(episode + wrong)
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    exec(code, {})
    assert capsys.readouterr().out == "0 0.5\n0 arithmetic/7+5 1.0 12 12\n"


def test_its_lines_are_what_is_written() -> None:
    step, episode = (json.loads(block) for block in blocks("json"))
    assert StepRecord.from_json(step).to_json() == step
    assert EpisodeRecord.from_json(episode).to_json() == episode


def test_every_key_is_named() -> None:
    lines = [record(one, audit=SCORE).to_json() for one in EPISODES.values()]
    lines.append(record(EPISODES["one turn"], token_numbers=[NUMBERS]).to_json())
    keys = {key for line in lines for key in (*line, *(inner for turn in line["turns"] for inner in turn))}
    cells = [row.split("|")[1] for row in PAGE.splitlines() if row.startswith("| `")]
    assert keys == {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}
