"""Steps of real runs again from their records: the same weights, and what other algorithms and rewards would do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from llmrl.cli.main import app
from llmrl.errors import CheckpointError, DataError
from llmrl.recipe import parse
from llmrl.replaying.run import ReplayedStep, alternatives_of, replay
from llmrl.train.loop import train
from llmrl.train.run import Run

MAZE = {"name": "maze", "layout": "u", "instructions": False, "memory": False}
PLAYED: dict[str, Any] = {
    "data": {"name": "arithmetic", "high": 3},
    "reward": {"name": "tests.integration.test_replaying:letters"},
    "engine": {"name": "hf"},
}
ROLLOUT = {"num_generations": 4, "prompts_per_step": 2, "max_completion_length": 4, "reward_workers": 1}
TURNS = {"max_turns": 3, "max_reply_length": 64, "max_prompt_length": 256}
KINDS: dict[str, dict[str, Any]] = {
    "grpo": {**PLAYED, "algorithm": {"name": "grpo", "beta": 0.1, "num_iterations": 2}},
    "ppo": {
        **PLAYED,
        "algorithm": {"name": "ppo", "kl_coef": 0.1, "kl_target": 1e-9, "kl_horizon": 10, "minibatches": 2},
    },
    "oreal": {
        **PLAYED,
        "algorithm": {"name": "oreal", "critic_only_steps": 1, "weight_threshold": 0.0, "right_above": 0.5},
        "critic": {"zero_init": False, "learning_rate": 1e-3},
    },
    "turns": {
        **PLAYED,
        "algorithm": {"name": "rloo"},
        "data": {"name": "games", "env": MAZE, "split": "all"},
        "env": MAZE,
        "rollout": {**ROLLOUT, **TURNS, "overlong_turns": "answer"},
    },
    "moving": {  # the reference, running moments of rewards, groups that are refused
        **PLAYED,
        "model": {"sync_ref_model": True, "ref_model_sync_steps": 1},
        "algorithm": {"name": "grpo", "beta": 0.1},
        "source": {"name": "online", "dynamic_sampling": True},
        "train": {"normalize_rewards": True},
    },
}


def letters(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
    """A reward that differs between any two answers."""
    return [float(sum(map(ord, completion[0]["content"])) % 97) / 97 for completion in completions]


Made = Callable[[str], Path]


@pytest.fixture(scope="module")
def runs(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Runs of two steps, each made when a test first asks for it. Do not write there."""
    out = tmp_path_factory.mktemp("runs")
    made: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in made:
            kind = KINDS.get(name) or {
                "algorithm": {"name": name, **({"baseline": "group"} if name == "a_lol" else {})},
                "source": {"name": "offline", "path": str(run("grpo"))},
            }
            values = {"rollout": {**ROLLOUT, "max_prompt_length": 32}, **kind}
            values["model"] = {"policy": str(tiny_model_dir), **kind.get("model", {})}
            every = {"save_steps": 1 if name == "grpo" else 0, "save_total_limit": 3}
            values["train"] = {
                "max_steps": 2,
                "learning_rate": 1e-3,
                "output_dir": str(out),
                "report_to": "none",
                **every,
                **kind.get("train", {}),
            }
            with Run(parse(values), name=name) as opened:
                train(opened)
            made[name] = opened.folder
        return made[name]

    return run


def learned(folder: Path, model: Path) -> bool:
    """True if the policy is another than the run began with."""
    before, after = (load_file(each / "model.safetensors") for each in (model, folder / "final"))
    return any(not torch.equal(before[name], after[name]) for name in after)


def replayed(folder: Path, step: int, *algorithms: Any, **more: Any) -> ReplayedStep:
    recipe = parse(yaml.safe_load((folder / "recipe.yaml").read_text()))
    return replay(folder, step, alternatives_of(recipe, algorithms, (), more.get("reward"), more.get("overrides", ())))


@pytest.mark.parametrize("name", [*KINDS, "a_lol", "bc"])
def test_a_step_ends_at_the_same_weights_to_the_last_bit(name: str, runs: Made, tiny_model_dir: Path) -> None:
    """Without a checkpoint before it, the step before it is taken again too."""
    folder = runs(name)
    found = replayed(folder, 1)
    assert learned(folder, tiny_model_dir)
    assert found.record.begin == (folder / "checkpoints/step-000001" if name == "grpo" else None)
    assert found.weights is not None
    assert max(found.weights.values()) == 0.0
    assert found.compared > 3
    assert found.metrics == {}
    assert found.same


def test_the_first_step_is_compared_with_the_checkpoint_behind_it(runs: Made) -> None:
    found = replayed(runs("grpo"), 0)
    assert found.record.after is not None
    assert found.record.after.name == "step-000001"
    assert found.same


def test_a_record_with_another_reward_ends_elsewhere(runs: Made, tmp_path: Path) -> None:
    """The comparison bites: a reward that was changed in the record is seen in weights and metrics."""
    folder = Path(shutil.copytree(runs("grpo"), tmp_path / "grpo"))
    lines = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line["step"] == 1)
    first["value"] = first["reward"] = first["value"] + 1.0
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = replayed(folder, 1)
    assert not found.same
    assert "grad_norm" in found.metrics
    done = CliRunner().invoke(app, ["replay", str(folder), "--step", "1"])
    assert done.exit_code == 1
    assert "tensors differ from checkpoints/step-000002" in done.output


def test_three_algorithms_on_one_step(runs: Made, tmp_path: Path) -> None:
    """Against GRPO with its own options, which is the record; what RLOO and Dr. GRPO say of it is known by hand."""
    folder, out = runs("grpo"), tmp_path / "found.json"
    specs = ["rloo", "{name: grpo, beta: 0.1, num_iterations: 2}", "{name: grpo, loss_type: dr_grpo}", "ppo"]
    asked = [word for spec in specs for word in ("--algorithm", spec)]
    done = CliRunner().invoke(app, ["replay", str(folder), "--step", "1", *asked, "--json", str(out)])
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    recorded, rloo, same, dr_grpo, ppo = found["algorithms"]
    assert recorded["gradient"]["cosine"] == recorded["update"]["cosine"] == pytest.approx(1.0)
    assert recorded["tokens"]["gain"] == recorded["tokens"]["lose"] == 0
    assert same["gradient"] == recorded["gradient"]
    assert same["update"] == recorded["update"], "also the optimiser begins where it was"
    assert same["metrics"] == recorded["metrics"]
    assert 0 < rloo["gradient"]["cosine"] < 1
    assert rloo["update"]["norm"] != recorded["update"]["norm"]
    assert dr_grpo["tokens"]["gain"] + dr_grpo["tokens"]["lose"] > 0
    assert ppo["fresh_models"] == ["critic"]
    assert "clip_share" in ppo
    for word in ("rloo", "ppo", "gradient, cosine", "tokens that gain"):
        assert word in done.output
    credit = [episode["credit"] for episode in found["episodes"]]
    for label in credit[0]:
        assert sum(abs(number) for own in credit for number in own[label]) == pytest.approx(1.0, rel=1e-3)
    for episode in found["episodes"]:
        assert len(episode["texts"]) == len(episode["token_ids"]) == len(episode["credit"]["rloo"])


def test_credit_is_the_advantage_where_nothing_else_is(runs: Made) -> None:
    """RLOO pushes a token by advantage times weight: alike over an answer, and summing to 0 over a group."""
    found = replayed(runs("grpo"), 1, "rloo")
    (comparison,) = found.comparisons
    for push in comparison.outcome.pushes.values():
        (only,) = {round(float(number), 6) for number in push if number}
        assert only
    groups: dict[str, float] = {}
    for (group, _, _), push in comparison.outcome.pushes.items():
        groups[group] = groups.get(group, 0.0) + float(push.max() + push.min())
    assert all(abs(total) < 1e-6 for total in groups.values())


def test_an_option_and_a_rate_by_overrides(runs: Made) -> None:
    found = replayed(runs("grpo"), 1, overrides=["train.learning_rate=2e-3"])
    (comparison,) = found.comparisons
    assert comparison.cosine == pytest.approx(1.0)
    numbers = comparison.summary()["update"]
    assert numbers["norm"] > 1.5 * compare_norm(found)


def compare_norm(found: ReplayedStep) -> float:
    from llmrl.replaying.comparison import norm

    return norm(found.outcome.change)


def test_another_reward_changes_verdicts_with_reasons(runs: Made, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    arguments = ["replay", str(runs("grpo")), "--step", "1", "--reward", "numeric", "--json", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    pairs = json.loads(out.read_text())["verdicts"]["reward numeric"]
    assert len(pairs) == 8
    assert all(pair["before"]["verdict"] is None and pair["now"]["verdict"] for pair in pairs)
    assert all("number" in pair["now"]["reason"] or "expected" in pair["now"]["reason"] for pair in pairs)
    assert "8 of 8 verdicts" in done.output


def test_stored_answers_have_no_other_reward(runs: Made) -> None:
    done = CliRunner().invoke(app, ["replay", str(runs("bc")), "--step", "1", "--reward", "numeric"])
    assert done.exit_code != 0
    assert "stored answers" in str(done.exception) or "does not learn from the episodes" in str(done.exception)


def damaged(folder: Path, tmp_path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Path:
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    lines = [json.loads(line) for line in (copied / "rollouts.jsonl").read_text().splitlines()]
    (copied / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in change(lines)))
    return copied


def without_tokens(line: dict[str, Any]) -> dict[str, Any]:
    kept = [{key: turn[key] for key in ("text", "reply", "reward", "finish", "version")} for turn in line["turns"]]
    return {**line, "turns": kept}


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (lambda lines: [line for line in lines if line["step"] == 0], "step 1: no episodes"),
        (lambda lines: lines[:-1], "step 1: 1 of 2 groups have fewer than 4 episodes"),
        (lambda lines: [without_tokens(line) for line in lines], "step 1: 8 episodes without their tokens"),
        (lambda lines: lines[:-4], "not all groups are there"),
    ],
    ids=["step", "episode", "tokens", "group"],
)
def test_what_is_missing_is_named(change: Any, missing: str, runs: Made, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be repeated") as refused:
        replayed(damaged(runs("grpo"), tmp_path, change), 1)
    assert missing in str(refused.value)


def test_a_step_that_the_run_has_not_taken(runs: Made) -> None:
    with pytest.raises(DataError, match="steps 0 to 1"):
        replayed(runs("grpo"), 2)


def test_another_model_is_refused(runs: Made, tmp_path: Path, tiny_model_dir: Path) -> None:
    """The first step needs the weights that the run began with."""
    folder = Path(shutil.copytree(runs("grpo"), tmp_path / "copied"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model"]["files"]["model.safetensors"] = "0"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"changed since: .*model\.safetensors"):
        replayed(folder, 0)


@pytest.mark.parametrize("override", ["rollout.temperature=0.5", "model.dtype=bfloat16"])
def test_what_was_played_stays(override: str, runs: Made) -> None:
    done = CliRunner().invoke(app, ["replay", str(runs("grpo")), "--step", "1", override])
    assert "the episodes have been played" in str(done.exception)


def test_a_replay_is_kept_where_the_viewer_finds_it(runs: Made, tmp_path: Path) -> None:
    from llmrl.view.replays import found
    from llmrl.view.runs import RunView

    folder = Path(shutil.copytree(runs("grpo"), tmp_path / "grpo"))
    arguments = ["replay", str(folder), "--step", "1", "--algorithm", "rloo", "--reward", "numeric", "--view"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    (replay,) = found(RunView(folder, "grpo"), 1)
    assert [each["label"] for each in replay["algorithms"]] == ["as recorded", "rloo", "reward numeric"]
    assert len(replay["episodes"]) == len(replay["verdicts"]["reward numeric"]) == 8


def test_nothing_in_the_folder_changes(runs: Made) -> None:
    folder = runs("grpo")
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}
    replayed(folder, 0, "rloo")
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")} == before
