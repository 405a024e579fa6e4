"""Several agents, and starts between turns, in runs of a real policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmrl import tiny
from llmrl.errors import CheckpointError
from llmrl.recipe import Recipe, parse
from llmrl.run_folder import reader
from tests.integration.test_restarts import run, steps


def recipe(model: Path, out: Path, env: dict[str, Any], /, **sections: Any) -> Recipe:
    rollout = dict(sections.pop("rollout", {}))
    limits = {"max_turns": 6, "max_completion_length": 8, "max_prompt_length": 96, "max_reply_length": 96}
    return parse(
        {
            "model": {"policy": str(model)},
            "data": {"name": "games", "env": env, "split": "all"},
            "env": env,
            "reward": {"name": "environment", "judged": False},
            "algorithm": {"name": "grpo", "scale_rewards": "none", "credit_level": "turn"},
            "engine": {"name": "hf"},
            "rollout": {"num_generations": 3, "prompts_per_step": 2, "reward_workers": 1, **limits, **rollout},
            "train": {"max_steps": 2, "save_steps": 1, "output_dir": str(out), "report_to": "none"},
            **sections,
        }
    )


DUEL = {"name": "nim", "instructions": False, "opponent": "agent"}


@pytest.mark.parametrize("opponents", [{}, {"second": {}}], ids=["shared", "frozen"])
def test_a_game_of_two_agents_trains(tiny_model_dir: Path, tmp_path: Path, opponents: dict[str, Any]) -> None:
    folder = run(recipe(tiny_model_dir, tmp_path, DUEL, rollout={"opponents": opponents}), "duel")
    records = list(reader.episodes(folder))
    assert {turn.agent for record in records for turn in record.trajectory.turns} <= {"first", "second"}
    spoke = {(turn.agent, turn.model) for record in records for turn in record.trajectory.turns}
    if opponents:
        assert ("first", "policy") in spoke
        assert ("second", "policy") not in spoke
    measured = steps(folder)
    assert all("agents/first/reward" in step for step in measured)
    assert not opponents or not any("agents/second/reward" in step for step in measured)
    assert all(step["sampling/logprob_diff/mean"] < 1e-3 for step in measured if "sampling/logprob_diff/mean" in step)


def test_a_greedy_writer_gives_every_solver_of_a_group_the_same_text(tiny_model_dir: Path, tmp_path: Path) -> None:
    """The writer samples at 0 and the policy at 1: a group has one text of the writer, and several answers."""
    env = {"name": "perturbation", "reward": "numeric", "allowed": "(?s).*"}
    rollout = {"opponents": {"writer": {"temperature": 0.0}}, "max_prompt_length": 300}
    sections: dict[str, Any] = {"data": {"name": "arithmetic"}, "rollout": rollout}
    folder = run(recipe(tiny_model_dir, tmp_path, env, **sections), "perturbed")
    texts: dict[str, set[str]] = {}  # by group and agent
    for record in reader.episodes(folder):
        for turn in record.trajectory.turns:
            texts.setdefault(f"{record.trajectory.group} {turn.agent}", set()).add(turn.text)
    assert [len(spoken) for name, spoken in texts.items() if name.endswith("writer")] == [1] * 4
    assert max(len(spoken) for name, spoken in texts.items() if name.endswith("solver")) > 1
    assert all("env/valid" in step for step in steps(folder))


def test_an_opponent_of_another_vocabulary_is_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    other = tiny.make(tmp_path / "other", hidden=32, layers=1)
    config = other / "tokenizer.json"
    config.write_text(config.read_text().replace('"a"', '"aa"', 1))
    made = recipe(tiny_model_dir, tmp_path, DUEL, rollout={"opponents": {"second": {"model": str(other)}}})
    with pytest.raises(CheckpointError, match=r"opponents\.second\.model .*: its vocabulary is not the policy's"):
        run(made, "other")


def test_a_run_that_begins_between_turns_goes_on_after_a_kill(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Two steps at once are one and, from the checkpoint, one more: restarts, samples and metrics are the same."""
    maze = {"name": "maze", "instructions": False, "memory": False}
    long = {"max_completion_length": 96, "max_prompt_length": 160, "prompts_per_step": 3}  # some answers end by then
    sections: dict[str, Any] = {"source": {"name": "restarts", "at": "turn", "share": 0.5, "decay_steps": 9}}
    sections["rollout"] = long
    made = recipe(tiny_model_dir, tmp_path, maze, **sections)
    whole = steps(run(made, "whole"))
    assert whole[1]["restarts/frac"] == pytest.approx(1 / 3), "round(0.5 * 8/9 * 3) of 3 groups"
    assert 1 <= whole[1]["restarts/turns"] <= 5
    short = recipe(
        tiny_model_dir,
        tmp_path,
        maze,
        train={"max_steps": 1, "save_steps": 1, "output_dir": str(tmp_path), "report_to": "none"},
        **sections,
    )
    run(short, "parts")
    assert steps(run(made, "parts", resume=True)) == whole
