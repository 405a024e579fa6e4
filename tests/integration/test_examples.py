"""Every example runs; GRPO on one page makes the framework's update; a model learns from fifteen lines of Python."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

import llmrl
from llmrl import tiny
from llmrl.errors import DataError, RecipeError, RewardError

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SHORT: dict[str, dict[str, Any]] = {
    "own_reward": {"steps": 2},
    "own_data": {"steps": 2},
    "own_environment": {"steps": 2},
    "pictures": {"steps": 2},
    "callbacks": {"steps": 3, "enough": 0.01},
    "evaluate_and_generate": {"limit": 4},
    "grpo_on_one_page": {"steps": 2},
}


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SHORT)
    assert [path.name for path in EXAMPLES.glob("*.ipynb")] == ["first_run.ipynb"]


@pytest.mark.parametrize("name", SHORT)
def test_an_example_runs(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = example(name).main(tmp_path, **SHORT[name])
    printed = capfd.readouterr()
    assert printed.out
    assert "Writing model shards" not in printed.out + printed.err
    if name == "callbacks":  # it was stopped by its callback, saved, and exported as after a last step
        assert (len(made.metrics), made.manifest["status"], made.manifest["steps"]) == (1, "finished", 1)
        assert made.final.is_dir()
        assert made.model(1).is_dir()


def cells(notebook: Path) -> list[str]:
    made = json.loads(notebook.read_text(encoding="utf-8"))
    assert (made["nbformat"], made["metadata"]["kernelspec"]["name"]) == (4, "python3")
    return ["".join(cell["source"]) for cell in made["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_runs_inside_of_a_running_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}

    async def kernel() -> None:
        beside = asyncio.create_task(asyncio.sleep(0))
        for source in cells(EXAMPLES / "first_run.ipynb"):
            exec(compile(source.replace('"max_steps": 10', '"max_steps": 2'), "<cell>", "exec"), names)
        await beside  # the notebook's loop is as it was

    asyncio.run(kernel())
    assert len(names["seen"]) == len(names["run"].metrics) == 2
    assert "Share of the characters" not in str(names["run"].recipe.data)


def small(folder: Path, **train: Any) -> dict[str, Any]:
    model = tiny.make(folder / "model", vocab="arithmetic", hidden=32, layers=1, heads=1, kv_heads=1)
    return {
        "model": {"policy": str(model)},
        "algorithm": {"name": "grpo"},
        "engine": {"name": "hf"},
        "rollout": {"prompts_per_step": 3, "num_generations": 4, "max_completion_length": 4},
        "train": {"max_steps": 1, "output_dir": str(folder), "run_name": "run", "report_to": "none", **train},
    }


def letters(completions: list[str], **columns: object) -> list[float]:
    return [float(sum(character > "M" for character in text)) for text in completions]


ROWS = [{"prompt": f"{number}="} for number in range(10, 16)]


def test_grpo_on_one_page_makes_the_update_of_the_framework(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    page = example("grpo_on_one_page")
    recipe = small(tmp_path, learning_rate=1e-3)
    run = llmrl.train(recipe, reward=letters, data=ROWS)
    groups: dict[str, list[Any]] = defaultdict(list)
    for record in run.episodes():
        (turn,) = record.trajectory.turns
        reward = record.trajectory.earned
        groups[record.trajectory.group].append(page.Episode(turn.prompt_ids, turn.completion.token_ids, reward))
    model: Any = AutoModelForCausalLM.from_pretrained(recipe["model"]["policy"])
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    page.learn(model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0), list(groups.values()))
    learned: Any = AutoModelForCausalLM.from_pretrained(run.final)
    theirs = dict(learned.named_parameters())
    moved = max(float((weight - before[name]).detach().abs().max()) for name, weight in theirs.items())
    apart = max(float((weight - theirs[name]).detach().abs().max()) for name, weight in model.named_parameters())
    assert moved > 5e-4
    assert apart < 2e-5 * max(1.0, moved)


FIFTEEN_LINES = """
import llmrl
def digits(completions, **columns):
    return [sum(c.isdigit() for c in text) / max(1, len(text)) for text in completions]
run = llmrl.train(
    {
        "model": {"policy": "model"},
        "algorithm": {"name": "grpo"},
        "engine": {"name": "hf"},
        "rollout": {"prompts_per_step": 4, "num_generations": 8, "max_completion_length": 8},
        "train": {"max_steps": 8, "learning_rate": 5e-3},
    },
    reward=digits,
    data=[{"prompt": f"{n}+{n}="} for n in range(10, 30)],
)
print(run.metrics["reward"], run.final)
"""


def test_fifteen_lines_train_the_model_of_the_demo(tmp_path: Path) -> None:
    tiny.make(tmp_path / "model", vocab="arithmetic")
    assert len(FIFTEEN_LINES.strip().splitlines()) <= 15
    done = subprocess.run(
        [sys.executable, "-c", FIFTEEN_LINES],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    (line,) = done.stdout.splitlines()  # nothing but what was printed
    rewards, final = json.loads(line.rpartition(" ")[0]), line.rpartition(" ")[2]
    assert rewards[-1] > rewards[0] + 0.02
    assert (tmp_path / final / "config.json").is_file()
    assert (tmp_path / "runs" / "run" / "libraries.log").is_file()


def test_a_run_of_objects_goes_on_and_tells_what_has_changed(tmp_path: Path) -> None:
    recipe = small(tmp_path, save_steps=1)
    llmrl.train(recipe, reward=lambda completions, **_: letters(completions), data=ROWS)
    longer = ["train.max_steps=2"]
    run = llmrl.train(
        recipe, reward=lambda completions, **_: letters(completions), data=ROWS, overrides=longer, resume=True
    )
    assert len(run.metrics) == 2
    with pytest.raises(llmrl.LlmrlError, match="data"):
        llmrl.train(recipe, overrides=["train.max_steps=3"], reward=letters, data=ROWS[1:], resume=True)
    again = llmrl.trained(run.folder).recipe  # any process reads it; what was an object is gone from this one
    assert again.data is not None
    with pytest.raises(DataError, match=r"llmrl\.train"):
        again.data.problems()
    with pytest.raises(RewardError, match=r"reward=\.\.\."):
        again.reward.as_group_reward(None)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"data": "nothing of the kind", "reward": letters}, "unknown data"),
        ({"data": 7, "reward": letters}, "data: expected a list of rows"),
        ({"data": [7], "reward": letters}, "row 0: found int"),
        ({"data": [], "reward": letters}, "no rows"),
        ({"data": [{"question_text": "?"}], "reward": letters}, "data: row 0: no prompt column"),
        ({"data": ROWS, "reward": lambda answer: 1.0}, "is no reward"),
        ({"data": ROWS, "reward": 3}, "reward: 3 lacks"),
        ({"data": ROWS, "reward": letters, "env": dict}, "env: builtins:dict has no reset"),
    ],
)
def test_objects_that_cannot_be_are_refused(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(llmrl.LlmrlError, match=said):
        llmrl.train(small(tmp_path), **given)


def test_a_pipeline_is_the_command_line_s(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="llmrl train"):
        llmrl.train(ROOT / "recipes" / "tiny" / "pipeline.yaml")
