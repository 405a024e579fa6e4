"""`llmrl sft|dpo|kto` with TRL's options: the recipe that they stand for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from llmrl.cli.main import app
from llmrl.errors import DataError

PAIRS = [{"prompt": f"say {n}", "chosen": "yes", "rejected": "no"} for n in range(20)]
LABELLED = [{"prompt": f"say {n}", "completion": "yes", "label": True} for n in range(20)]


@pytest.mark.parametrize(("command", "rows", "name"), [("dpo", PAIRS, "preference"), ("kto", LABELLED, "kto")])
def test_options_of_trl_become_a_recipe(command: str, rows: list[object], name: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--model_name_or_path", "owner/model", "--dataset_name", str(file), "--output_dir", str(tmp_path / "out")]
    more = ["--per_device_train_batch_size", "4", "--num_train_epochs", "2", "--beta", "0.2", "--dry-run"]
    ended = CliRunner().invoke(app, [command, *given, *more], catch_exceptions=False)
    made = yaml.safe_load(ended.output)
    assert (made["algorithm"]["name"], made["algorithm"]["beta"]) == (name, 0.2)
    assert (made["train"]["max_steps"], made["rollout"]["prompts_per_step"]) == (10, 4)
    assert (made["source"]["path"], made["train"]["run_name"]) == (str(file), "out")


def test_a_missing_file_is_missing_and_no_name_of_the_hub(tmp_path: Path) -> None:
    given = ["--model_name_or_path", "owner/model", "--dataset_name", "none.jsonl", "--output_dir", str(tmp_path)]
    ended = CliRunner().invoke(app, ["sft", *given])
    assert isinstance(ended.exception, DataError)
    assert "none.jsonl: no such file" in str(ended.exception)
