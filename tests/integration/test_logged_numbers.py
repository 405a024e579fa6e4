"""`rollout.log_trainer`: the log knows more, and the run is the same bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmrl.recipe import Recipe
from llmrl.run_folder import reader
from llmrl.train.loop import train
from llmrl.train.run import Run
from tests.integration.test_run_folder import recipe


def trained(made: Recipe, name: str, *, noted: bool) -> Path:
    made = replace(made, rollout=replace(made.rollout, log_trainer=noted))
    with Run(made, name=name) as run:
        train(run)
    return run.folder


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_the_trainers_numbers_are_logged_and_nothing_else_changes(
    algorithm: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    from llmrl.plugins import build

    made = recipe(tiny_model_dir, tmp_path)
    made = replace(made, algorithm=build("algorithm", algorithm), reward=build("reward", "length"))
    plain, noted = trained(made, "plain", noted=False), trained(made, "noted", noted=True)
    weights = "final/model.safetensors"
    assert (plain / weights).read_bytes() == (noted / weights).read_bytes()
    learned = 0
    for without, record in zip(reader.episodes(plain), reader.episodes(noted), strict=True):
        assert record.trajectory == without.trajectory
        if not record.token_numbers:  # nothing was learned from it
            assert not record.advantage
            continue
        learned += 1
        (turn,), (numbers,) = record.trajectory.turns, record.token_numbers
        assert all(abs(gap) < 1e-3 for gap in numbers["trainer_gaps"])  # type: ignore[union-attr]
        assert len(numbers["entropies"]) == len(turn.completion.token_ids)  # type: ignore[arg-type]
        assert all(number > 0 for number in numbers["entropies"])  # type: ignore[union-attr]
        assert "entropies" not in dict(without.token_numbers[0])
        assert numbers["advantages"] == without.token_numbers[0]["advantages"]
    assert learned
