"""Curves of runs, read from their folders and from the file that a drawing leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrl.errors import DataError
from llmrl.run_folder.curves import by_group, draw, read, table

METRIC = "eval/arithmetic/avg@1"


def run(folder: Path, name: str, values: dict[int, float], before: float | None = None) -> Path:
    made = folder / name
    made.mkdir()
    lines = [{"step": step - 1, METRIC: value, "step_time": 2.0} for step, value in values.items()]
    (made / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [{"step": 0}, *lines]))
    if before is not None:
        first = made / "eval" / "step-000000"
        first.mkdir(parents=True)
        (first / "results.json").write_text(json.dumps({"arithmetic": {"metrics": {"avg@1": {"value": before}}}}))
    return made


def test_what_a_drawing_leaves_draws_the_same(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, "ppo-0", {10: 0.5, 20: 0.7}, before=0.4),
        run(tmp_path, "ppo-1", {10: 0.6, 20: 0.9}, before=0.5),
        run(tmp_path, "dr-grpo-0", {10: 0.3, 20: 0.2}),
    ]
    draw(runs, tmp_path / "a" / "curves", METRIC)
    draw([tmp_path / "a" / "curves.json"], tmp_path / "b" / "curves", METRIC)
    for ending in ("json", "csv", "md"):
        first, second = (tmp_path / folder / f"curves.{ending}" for folder in "ab")
        assert first.read_text() == second.read_text()
    assert (tmp_path / "b" / "curves.png").read_bytes().startswith(b"\x89PNG")
    rows = (tmp_path / "a" / "curves.csv").read_text().splitlines()
    assert rows[:3] == [f"group,seed,step,{METRIC}", "ppo,0,0,0.4", "ppo,0,10,0.5"]


def test_groups_and_their_numbers(tmp_path: Path) -> None:
    runs = [run(tmp_path, f"ppo-{seed}", {20: 0.6 + 0.1 * seed}, before=0.4) for seed in range(3)]
    runs.append(run(tmp_path, "dr-grpo-7", {10: 0.3, 20: 0.2}))
    groups = by_group([curve for folder in runs for curve in read(folder, METRIC)])
    assert {name: [curve.seed for curve in curves] for name, curves in groups.items()} == {
        "ppo": ["0", "1", "2"],
        "dr-grpo": ["7"],
    }
    made = table(groups, METRIC).splitlines()
    assert made[2].startswith("| ppo | 3 | 0.400 (0.400 to 0.400) | 0.700 (0.600 to 0.800) | ")
    assert "| +0.300 (+0.200 to +0.400) | 3 of 3 | 2 |" in made[2]
    assert made[3].startswith("| dr-grpo | 1 | 0.300 (0.300 to 0.300) | 0.200 (0.200 to 0.200) | ")
    assert "| 0 of 1 |" in made[3]


def test_an_evaluation_that_cannot_be_read_is_not_left_out(tmp_path: Path) -> None:
    made = run(tmp_path, "ppo-0", {10: 0.5}, before=0.4)
    (made / "eval" / "step-000000" / "results.json").write_text('{"arithmetic": {}}')
    with pytest.raises(DataError, match=r"results\.json: no 'eval/arithmetic/avg@1' in it \(KeyError"):
        read(made, METRIC)


def test_an_evaluation_of_a_benchmark_by_its_place(tmp_path: Path) -> None:
    made = run(tmp_path, "ppo-0", {}, before=0.0)
    (made / "metrics.jsonl").write_text(json.dumps({"step": 9, "eval/mine:SUMS/avg@1": 0.5}) + "\n")
    found = {"mine.SUMS": {"metrics": {"avg@1": {"value": 0.25}}}}
    (made / "eval" / "step-000000" / "results.json").write_text(json.dumps(found))
    assert read(made, "eval/mine:SUMS/avg@1")[0].points == [(0, 0.25), (10, 0.5)]


def test_seconds_that_nobody_took_are_none(tmp_path: Path) -> None:
    made = run(tmp_path, "ppo-0", {10: 0.5})
    assert read(made, METRIC)[0].seconds == 2.0
    (made / "metrics.jsonl").write_text(json.dumps({"step": 9, METRIC: 0.5}) + "\n")
    assert read(made, METRIC)[0].seconds is None


def test_what_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no metrics\.jsonl; expected the folder of a run"):
        read(tmp_path, METRIC)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read(tmp_path / "none.json", METRIC)
    made = run(tmp_path, "ppo-0", {10: 0.5})
    with pytest.raises(DataError, match=r"no .eval/gsm8k/avg@1. in metrics\.jsonl; evaluations there: eval/arithmetic"):
        read(made, "eval/gsm8k/avg@1")
    draw([made], tmp_path / "curves", METRIC)
    with pytest.raises(DataError, match=r"asked for 'reward'; give --metric eval/arithmetic/avg@1"):
        read(tmp_path / "curves.json", "reward")
    (tmp_path / "odd.json").write_text('{"metric": "reward", "runs": [1]}')
    with pytest.raises(DataError, match=r"odd\.json: not a file of curves"):
        read(tmp_path / "odd.json", "reward")
