"""Models of a run's checkpoints: exported, chosen by step, and taken by commands of a run's folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from llmrl.cli.export import folder_of
from llmrl.cli.main import app
from llmrl.errors import CheckpointError, RecipeError
from llmrl.recipe import Recipe, parse
from llmrl.train import run_export
from llmrl.train.loop import train
from llmrl.train.run import Run


def letters(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
    """A reward that differs between any two answers."""
    return [float(sum(map(ord, completion[0]["content"])) % 97) for completion in completions]


def recipe(model: Path, out: Path, **options: Any) -> Recipe:
    return parse(
        {
            "model": {"policy": str(model)},
            "data": {"name": "arithmetic", "high": 3},
            "reward": {"name": "tests.integration.test_run_export:letters"},
            "algorithm": {"name": "grpo"},
            "engine": {"name": "hf"},
            "rollout": {"num_generations": 2, "prompts_per_step": 1, "max_completion_length": 4, "reward_workers": 1},
            "train": {
                "max_steps": 3,
                "save_steps": 1,
                "save_total_limit": 3,
                "learning_rate": 1e-2,
                "output_dir": str(out),
                "report_to": "none",
                **options,
            },
            "eval": {"every": 1, "benchmarks": ["arithmetic"], "limit": 2},
        }
    )


@pytest.fixture(scope="module")
def run(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps, each of which is kept; the best by eval is the first of equal ones."""
    folder = tmp_path_factory.mktemp("runs with blanks")
    with Run(recipe(tiny_model_dir, folder), name="one") as made:
        train(made)
    return made.folder


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "one"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return found


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(weight, right[name]) for name, weight in left.items())


def test_the_last_checkpoint_is_the_final_model(copied: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["export", str(copied), "--step", "3", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert re.search(rf"^next: .*serve {re.escape(str(out))}$", done.output, re.M)
    assert same(weights(out), weights(copied / "final"))
    assert {p.name for p in out.iterdir()} == {p.name for p in (copied / "final").iterdir()}
    assert sorted(p.name for p in (copied / "checkpoints").iterdir()) == [f"step-00000{i}" for i in (1, 2, 3)]
    again = CliRunner().invoke(app, ["export", str(copied), "--out", str(out)])
    assert isinstance(again.exception, CheckpointError), "what is there is not overwritten"


def test_an_earlier_one_is_another_model(copied: Path) -> None:
    said: list[str] = []
    first = run_export.model_of(copied, "1", said.append)
    assert first == copied / "exported" / "step-000001"
    assert not same(weights(first), weights(copied / "final"))
    assert run_export.best_step(copied) == 1
    assert run_export.model_of(copied, "best", said.append) == first, "which is there already"
    assert "(the best by eval)" in said[-1]


def test_commands_take_the_final_model_and_say_so(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert folder_of(str(copied), None) == str(copied / "final")
    assert "the best by eval is after 1 steps: --step best" in capsys.readouterr().out
    assert folder_of("owner/model", None) == "owner/model"
    shutil.rmtree(copied / "final")
    assert folder_of(str(copied), None) == str(copied / "exported" / "step-000001")
    with pytest.raises(CheckpointError, match="no final/ there: the run has not ended; there: 1, 2, 3"):
        folder_of(str(copied), "final")


@pytest.mark.parametrize(
    ("step", "said"),
    [("7", "no checkpoint after 7 steps; there: 1, 2, 3, final"), ("last", "--step last: expected a number of steps")],
)
def test_steps_that_are_not_there(run: Path, step: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        run_export.choose(run, step)


def test_a_step_of_what_is_no_run(tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no folder of a run"):
        folder_of(str(tiny_model_dir), "2")
    done = CliRunner().invoke(app, ["export", str(tmp_path)])
    assert "no recipe.yaml; expected one such as runs/mine" in str(done.exception)


# Resuming with other inputs


def test_fewer_steps_than_were_taken_export_nothing(copied: Path, tiny_model_dir: Path) -> None:
    before = (copied / "final" / "model.safetensors").stat().st_mtime_ns
    short = recipe(tiny_model_dir, copied.parent, max_steps=2)
    with pytest.raises(RecipeError, match=r"train.max_steps 2, and the run has taken 3 steps already: nothing is left"):
        Run(short, resume=True, name="one")
    assert (copied / "final" / "model.safetensors").stat().st_mtime_ns == before
    assert len(list((copied / "checkpoints").iterdir())) == 3


def test_other_data_and_another_model_are_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    model, rows = Path(shutil.copytree(tiny_model_dir, tmp_path / "model")), tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1+1=", "answer": "2"}\n{"question": "1+2=", "answer": "3"}\n')
    made = recipe(model, tmp_path, max_steps=2)
    data = {"name": "jsonl", "path": str(rows), "prompt_column": "question", "answer_column": "answer"}
    values = made.as_dict() | {"data": data, "eval": {}}
    with Run(parse(values), name="one") as begun:
        train(begun)
    longer = parse(values | {"train": values["train"] | {"max_steps": 3}})
    rows.write_text(rows.read_text().replace('"3"', '"4"'))
    with pytest.raises(CheckpointError, match=r"changed since: the data \(sha256 was "):
        Run(longer, resume=True, name="one")
    assert len(list((tmp_path / "one" / "checkpoints").iterdir())) == 2, "nothing was set aside"
    rows.write_text(rows.read_text().replace('"4"', '"3"'))
    (model / "generation_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"changed since: .*model/generation_config.json. Bring them back"):
        Run(longer, resume=True, name="one")


def test_code_that_changed_is_told(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    code = tmp_path / "reward_that_changes.py"
    code.write_text("def score(prompts, completions, **columns):\n    return [1.0 for _ in completions]\n")
    monkeypatch.syspath_prepend(tmp_path)
    values = recipe(tiny_model_dir, tmp_path, max_steps=1).as_dict()
    values |= {"reward": {"name": "reward_that_changes:score"}, "eval": {}}
    with Run(parse(values), name="one") as begun:
        train(begun)
    code.write_text(code.read_text().replace("1.0", "2.0"))
    longer = parse(values | {"train": values["train"] | {"max_steps": 2}})
    with caplog.at_level("WARNING", "llmrl.train.recorder"), Run(longer, resume=True, name="one") as run:
        assert f"{code} has changed since the run began" in caplog.text
        train(run)
