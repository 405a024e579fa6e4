"""Recipes of stages that nothing else runs, by the real command: small, and what each stage leaves is looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from llmrl import plugins, tiny
from llmrl.run_folder import reader
from llmrl.types import Trajectory

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of printable characters, as the demo's is before it learns."""
    return tiny.make(tmp_path_factory.mktemp("model"), vocab="arithmetic", hidden=64, layers=2)


def ran(llmrl: Callable[..., Any], name: str, model: Path, out: Path, *overrides: str) -> tuple[Path, str]:
    """The folder of a pipeline that ran from a model, and its output."""
    text = (ROOT / "recipes" / "tiny" / f"{name}.yaml").read_text(encoding="utf-8")
    recipe = out / f"{name}.yaml"
    recipe.write_text(f"output_dir: {out}\n{text.replace('runs/demo/sft', str(model))}", encoding="utf-8")
    return out / name, llmrl("train", str(recipe), "--quiet", *overrides).wait()


def played(stage: Path) -> list[Trajectory]:
    return [record.trajectory for record in reader.episodes(stage)]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def moved(before: Path, after: Path) -> bool:
    """True if any weight is another one."""
    old, new = (load_file(folder / "model.safetensors") for folder in (before, after))
    return any((old[name] != value).any() for name, value in new.items())


def test_a_round_of_the_flywheel(llmrl: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    """A model that knows nothing follows nothing: this is told, and both learn from the tasks all the same."""
    folder, told = ran(llmrl, "flywheel", model, tmp_path)
    game = plugins.build("env", {"name": "maze", "instructions": False})
    tasks = lines(folder / "label" / "tasks.jsonl")
    for task in tasks:
        state = game.begin(task["start"])
        for action in task["reference"]:
            state = game.play(state, action).state
        assert game.shown(state) != task["shown"], "doing nothing would follow it"
    episodes = played(folder / "play")
    assert len(episodes) == 2 * 8 * 2
    assert {episode.status for episode in episodes} <= {"done", "cut"}, "no line's limit ends an episode"
    assert {episode.problem.id for episode in episodes} <= {task["id"] for task in tasks}
    followed = {episode.problem.id for episode in episodes if episode.verdict == "correct"}
    assert f"{len(followed)} followed" in told
    agent = lines(folder / "keep" / "agent.jsonl")
    assert all(row["messages"][-1] == {"role": "assistant", "content": "done"} for row in agent)
    assert moved(model, folder / "generator" / "final")
    assert moved(model, folder / "agent" / "final")


def test_a_writer_and_a_solver_learn_in_turn(llmrl: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    names = ("writer-1", "solver-1", "writer-2", "solver-2")
    small = [f"{name}.train.max_steps=1" for name in names]
    small += [f"{name}.env.allowed='[^a-m]*'" for name in names]  # about a third of the texts of such a model
    folder, _ = ran(llmrl, "qarl_writer", model, tmp_path, *small, "check.plan.limit=4")
    for name in names:
        own, other = ("writer", "solver") if name.startswith("writer") else ("solver", "writer")
        for episode in played(folder / name):
            assert [turn.agent for turn in episode.turns] == ["writer", "solver"], "every text is answered"
            speakers = {turn.agent: turn.model for turn in episode.turns}
            assert (speakers[own], speakers[other] == "policy") == ("policy", False)
            writer, solver = episode.turns
            if not episode.metrics["valid"]:
                assert writer.reward == -1.0, "also of a text that reached its limit"
            else:
                assert writer.reward == 1 - solver.reward
    assert played(folder / "solver-2")[0].turns[0].model == str(folder / "writer-2" / "final")
    assert moved(model, folder / "writer-1" / "final")
    assert json.loads((folder / "check" / "results.json").read_text())["arithmetic"]["problems"] == 4
