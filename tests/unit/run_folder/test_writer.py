from __future__ import annotations

import json
import logging
from math import inf
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import CheckpointError
from llmrl.run_folder import reader
from llmrl.run_folder.writer import Logs
from llmrl.samples import Sample
from llmrl.types import Completion, Problem, Score, Trajectory, Turn
from tests.builders import sample

PROBLEM = Problem(id="p", messages=[{"role": "user", "content": "1+1="}])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def played(group: str, episode: int = 0) -> Trajectory:
    completion = Completion(token_ids=[5, 6], logprobs=[-1.0, -2.0], finish="stop", version=3)
    turn = Turn(prompt_ids=[1], completion=completion, text="2", reply=[{"role": "user", "content": "ok"}], reward=0.5)
    score = Score(1.0, "correct", parts={"numeric": 1.0}, reason="read 2, expected 2")
    return Trajectory(problem=PROBLEM, turns=[turn], status="done", score=score, group=group, episode=episode)


def row(group: str, advantages: list[float]) -> Sample:
    return sample(
        group=group,
        episode=0,
        reward=1.0,
        turn_rewards=[],
        token_ids=[1, 5, 6],
        turn_ids=[-1, 0, 0],
        action_mask=[False, True, True],
        sampled_logprobs=[0.0, -1.0, -2.0],
        advantages=advantages,
    )


def test_a_line_a_step(tmp_path: Path) -> None:
    logs = Logs(tmp_path / "run", writes=True, share=1.0)
    logs.metrics(0, {"reward": 0.5})
    logs.metrics(1, {"reward": 0.75})
    assert lines(tmp_path / "run" / "metrics.jsonl") == [{"step": 0, "reward": 0.5}, {"step": 1, "reward": 0.75}]


def test_an_episode_is_logged_with_its_verdict_parts_and_credit(tmp_path: Path) -> None:
    logs = Logs(tmp_path, writes=True, share=1.0)
    logs.rollouts(4, [[played("0/p")]], [row("0/p", [0.0, -1.5, 1.0])])
    (line,) = lines(tmp_path / "rollouts.jsonl")
    (turn,) = line["turns"]
    assert (turn["text"], turn["reply"], turn["reward"]) == ("2", [{"role": "user", "content": "ok"}], 0.5)
    assert (line["step"], line["problem"], line["group"], line["version"], line["tokens"]) == (4, "p", "0/p", 3, 2)
    assert (line["reward"], line["value"]) == (1.5, 1.0), "what the episode earned, and its score"
    assert (line["verdict"], line["parts"]) == ("correct", {"numeric": 1.0})
    assert line["advantage"] == -1.5, "the largest of its tokens, with its sign"
    logs.rollouts(6, [[played("2/p")]], [row("2/p", [0.0, -1.5, 1.0]), row("2/p", [0.0, 0.5, 0.25])])
    assert lines(tmp_path / "rollouts.jsonl")[-1]["advantage"] == -1.5, "the largest of all of its samples"
    logs.rollouts(5, [[played("1/p")]], [])
    assert lines(tmp_path / "rollouts.jsonl")[-1]["advantage"] == 0.0, "a row that was dropped got none"


def test_a_share_of_the_episodes_is_the_same_share_every_time(tmp_path: Path) -> None:
    groups = [[played(f"{i}/p", episode) for episode in range(4)] for i in range(50)]
    counts = []
    for name in ("a", "b"):
        Logs(tmp_path / name, writes=True, share=0.3).rollouts(0, groups, [])
        counts.append([(line["group"], line["episode"]) for line in lines(tmp_path / name / "rollouts.jsonl")])
    assert counts[0] == counts[1]
    assert 40 < len(counts[0]) < 80


def test_a_resumed_run_forgets_the_steps_it_takes_again_and_half_a_line(tmp_path: Path) -> None:
    logs = Logs(tmp_path, writes=True, share=1.0)
    for step in range(4):
        logs.metrics(step, {"reward": float(step)})
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"step": 1, "rew')  # a kill in the middle of a write; even its step cannot be trusted
    logs.forget_from(2)
    assert [line["step"] for line in lines(path)] == [0, 1]
    assert path.read_text().endswith("\n")
    logs.forget_from(0)
    assert path.read_text() == ""
    assert not (tmp_path / "rollouts.jsonl").exists()


def test_episodes_of_dropped_steps_are_dropped_and_what_comes_next_is_written_as_before(tmp_path: Path) -> None:
    logs = Logs(tmp_path, writes=True, share=1.0)
    for step in range(12):
        logs.rollouts(step, [[played(f"{step}/p"), played(f"{step}/p", 1)]], [])
    path = tmp_path / "rollouts.jsonl"
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"step":12,"problem":"p","gro')
    logs.forget_from(10)
    assert [record.step for record in reader.episodes(tmp_path)] == [step for step in range(10) for _ in "ab"]
    for step in (10, 11):
        logs.rollouts(step, [[played(f"{step}/p"), played(f"{step}/p", 1)]], [])
    assert path.read_bytes() == whole


def test_beyond_the_bound_episodes_are_logged_without_tokens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fill(folder: str, tokens_mb: float, steps: range) -> Path:
        logs = Logs(tmp_path / folder, writes=True, share=1.0, tokens_mb=tokens_mb)
        logs.forget_from(steps[0])
        for step in steps:
            logs.rollouts(step, [[played(f"{step}/p", episode) for episode in range(2)]], [])
        return tmp_path / folder / "rollouts.jsonl"

    with caplog.at_level(logging.WARNING):
        line = len(fill("whole", inf, range(1)).read_bytes()) // 2
        assert not caplog.records
        bound = 2.5 * line / 1e6  # the third line begins below it, the fourth above
        path = fill("bounded", bound, range(4))
    records = list(reader.episodes(path))
    assert [record.has_tokens for record in records] == [True] * 3 + [False] * 5
    assert {record.trajectory.text for record in records} == {"2"}, "texts go on"
    (told,) = [record.getMessage() for record in caplog.records]
    assert "rollouts.jsonl: 0 MB, which is rollout.log_tokens_mb: from step 1 on episodes are logged without" in told
    before = path.read_bytes()
    assert fill("bounded", bound, range(2, 4)).read_bytes() == before, "a resumed run draws the line in the same place"
    caplog.clear()
    none = list(reader.episodes(fill("none", 0.0, range(1))))
    assert not any(record.has_tokens for record in none)
    assert not caplog.records, "nobody asked for tokens"


def test_processes_that_do_not_write_write_nothing(tmp_path: Path) -> None:
    logs = Logs(tmp_path / "run", writes=False, share=1.0)
    logs.metrics(0, {"reward": 1.0})
    logs.write("manifest.json", {})
    logs.rollouts(0, [[played("g")]], [])
    logs.rows("bad.jsonl", [])
    logs.forget_from(0)
    logs.curves()
    assert not (tmp_path / "run").exists()


def test_rows_are_written_whole(tmp_path: Path) -> None:
    path = Logs(tmp_path, writes=True, share=1.0).rows("bad.jsonl", [row("g", [0.0, float("nan"), 1.0])])
    (line,) = lines(path)
    assert (line["group"], line["token_ids"]) == ("g", [1, 5, 6])


def test_curves_are_drawn_of_what_there_is(tmp_path: Path) -> None:
    logs = Logs(tmp_path, writes=True, share=1.0)
    logs.curves()
    assert not (tmp_path / "curves.png").exists()
    for step in range(3):
        logs.metrics(step, {"reward": float(step), "eval/gsm8k/avg@1": 0.1} if step != 1 else {"entropy": 1.0})
    logs.curves()
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_made_or_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(CheckpointError, match=r"taken/run: cannot be made: .*; choose another train.output_dir"):
        Logs(tmp_path / "taken" / "run", writes=True, share=1.0)
    logs = Logs(tmp_path / "run", writes=True, share=1.0)
    (tmp_path / "run" / "metrics.jsonl").mkdir()
    with pytest.raises(CheckpointError, match=r"metrics.jsonl: cannot be written: Is a directory; make room"):
        logs.metrics(0, {})
    (tmp_path / "run" / "recipe.yaml").mkdir()
    with pytest.raises(CheckpointError, match=r"recipe.yaml: cannot be written: .*; choose another train.output_dir"):
        logs.text("recipe.yaml", "a: 1")


@pytest.mark.parametrize("name", ["metrics.jsonl", "rollouts.jsonl"])
@pytest.mark.parametrize(
    "line", [b"\0" * 40, b'{"step": 0, "a"', b'{"step": 0, "a": "\xff"}', b"7", b'{"step": 0, "\0": 1}']
)
def test_a_damaged_line_is_named_and_nothing_is_dropped(tmp_path: Path, name: str, line: bytes) -> None:
    logs, path = Logs(tmp_path, writes=True, share=1.0), tmp_path / name
    whole = b'{"step":0,"a":1}\n' + line + b'\n{"step":1,"a":1}\n'
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match=rf"{name}:2: damaged: .* To go on without the line: sed -i 2d {path}"):
        logs.forget_from(2)
    assert path.read_bytes() == whole
    path.write_bytes(b'{"step":0,"a":1}\n{"step":1,"a":1}\n' + line)  # cut off by a kill: that is no damage
    logs.forget_from(1)
    assert path.read_bytes() == b'{"step":0,"a":1}\n'
    logs.flush()
