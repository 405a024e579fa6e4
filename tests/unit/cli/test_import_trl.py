"""Files of TRL and open-r1 as recipes: what is carried over, how steps are counted, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from llmrl.cli.import_trl import DEFAULTS, read
from llmrl.cli.main import app
from llmrl.errors import RecipeError
from llmrl.recipe import parse

OPEN_R1 = {
    "model_name_or_path": "Qwen/Qwen2.5-7B",
    "torch_dtype": "bfloat16",
    "dataset_name": "somebody/maths",
    "dataset_config": "all",
    "dataset_prompt_column": "problem",
    "beta": 0.0,
    "bf16": True,
    "do_eval": False,
    "use_vllm": True,
    "vllm_gpu_memory_utilization": 0.7,
    "gradient_accumulation_steps": 16,
    "generation_batch_size": 1024,
    "hub_model_id": "somebody/model",
    "learning_rate": "1e-6",
    "lr_scheduler_type": "constant_with_warmup",
    "max_completion_length": 8192,
    "max_steps": 200,
    "num_generations": 16,
    "per_device_train_batch_size": 4,
    "report_to": ["wandb"],
    "reward_funcs": ["accuracy", "format"],
    "reward_weights": [1.0, 0.25],
    "cosine_max_len": 4000,
    "save_steps": 0.1,
    "warmup_ratio": 0.1,
}


def file(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "flat.yaml"
    path.write_text(yaml.safe_dump({**OPEN_R1, **changes}))
    return path


def values(tmp_path: Path, processes: int = 8, **changes: Any) -> dict[str, dict[str, Any]]:
    return read(file(tmp_path, **changes), processes).values


def test_a_file_of_open_r1_becomes_a_recipe(tmp_path: Path) -> None:
    """4 x 8 x 16 = 512 completions an update, 1024 a rollout: 64 prompts of 16, two minibatches, 100 steps of 200."""
    made = read(file(tmp_path), 8)
    assert made.left_out == ["do_eval", "hub_model_id"]
    recipe = parse(made.values)
    assert (recipe.rollout.prompts_per_step, recipe.rollout.num_generations) == (64, 16)
    assert (recipe.train.max_steps, recipe.train.warmup_steps, recipe.train.save_steps) == (100, 10, 10)
    assert (recipe.train.lr_scheduler_type, recipe.train.learning_rate, recipe.train.report_to) == (
        "constant",
        1e-6,
        "wandb",
    )
    assert made.values["data"] == {
        "name": "jsonl",
        "dataset_name": "somebody/maths",
        "dataset_config": "all",
        "prompt_column": "problem",
        "answer_column": "solution",
    }
    weights = {"reward_funcs": ["accuracy", "format"], "reward_weights": [1.0, 0.25]}
    assert made.values["reward"] == {"name": "open_r1", **weights, "cosine_max_len": 4000}
    assert made.values["algorithm"]["minibatches"] == 2
    assert made.values["algorithm"]["importance_sampling_correction"] == "sequence_mask"
    assert made.values["algorithm"]["importance_sampling_cap"] == 3.0
    assert made.values["engine"] == {"name": "vllm", "gpu_memory_utilization": 0.7}


def test_what_a_file_does_not_say_is_what_trl_takes(tmp_path: Path) -> None:
    from trl import GRPOConfig

    theirs = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, num_generations=8)
    assert {key: getattr(theirs, key) for key in DEFAULTS if key != "bf16"} == {
        key: value for key, value in DEFAULTS.items() if key != "bf16"
    }
    path = tmp_path / "bare.yaml"
    bare = ("model_name_or_path", "dataset_name", "reward_funcs", "max_steps")
    path.write_text(yaml.safe_dump({key: OPEN_R1[key] for key in bare}))
    made = read(path, 2).values
    recipe = parse(made)
    assert (recipe.rollout.max_completion_length, recipe.train.lr_scheduler_type) == (512, "linear")
    assert (recipe.rollout.prompts_per_step, recipe.train.max_steps) == (2, 200)
    assert (made["engine"], made["algorithm"]["importance_sampling_correction"]) == ({"name": "hf"}, "none")


def test_functions_of_trl_and_your_own_are_a_mix(tmp_path: Path) -> None:
    made = values(tmp_path, reward_funcs=["accuracy_reward", "math.sqrt"])
    assert made["reward"] == {
        "name": "mix",
        "parts": {"trl.rewards:accuracy_reward": 1.0, "math:sqrt": 0.25},
    }
    assert made["data"]["answer_column"] == "solution"
    assert "answer_column" not in values(tmp_path, reward_funcs=["format", "code"])["data"]


def test_lora_and_dr_grpo_bring_what_they_need(tmp_path: Path) -> None:
    made = values(tmp_path, loss_type="dr_grpo", use_peft=True, lora_target_modules="all-linear")
    assert made["algorithm"]["max_completion_length"] == 8192
    assert made["model"]["lora_dropout"] == 0.05
    with pytest.raises(RecipeError, match="lora_target_modules: missing"):
        values(tmp_path, use_peft=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chat_template": "{{ x }}"}, "chat_template: '{{ x }}' has no counterpart: put it into the model's folder"),
        (
            {"chat_templat": "x"},
            "chat_templat: 'x' has no counterpart: llmrl has nothing of that kind; take it out, or",
        ),
        ({"weight_decai": 0}, "weight_decai: 0 has no counterpart"),
        ({"load_in_4bit": True}, "load_in_4bit: True has no counterpart: trained weights are float32 or bfloat16"),
        ({"torch_dtype": "float16"}, "dtype: 'float16' has no counterpart"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "lr_scheduler_type: 'cosine_with_min_lr' has no counterpart"),
        ({"vllm_mode": "server"}, "vllm_mode: 'server' has no counterpart: write `engine: {name: server"),
        (
            {"max_steps": -1},
            r"save_steps 0\.1: a share .* follows from the data; .*add max_steps=\.\.\. after the file",
        ),
        ({"max_steps": 3}, "max_steps 3: expected a multiple of 2"),
        ({"num_generations": 7}, "1024 completions are played at a time, an update takes 512, a group has 7; expected"),
        ({"num_generations": 0}, "num_generations 0: expected at least 1"),
        ({"gradient_accumulation_steps": "many"}, "gradient_accumulation_steps: .*found 'many'"),
        ({"reward_funcs": None}, "reward_funcs: None; expected a list of names"),
        ({"reward_funcs": ["accuracy", "x.y"]}, "reward_funcs: 'accuracy' has no counterpart: it stands beside"),
        ({"reward_funcs": ["x.y"]}, "reward_weights: .* expected one for each of 1 reward_funcs"),
        ({"dataset_name": None}, "dataset_name: missing"),
        ({"loss_type": "bnpo"}, "loss_type: .*found 'bnpo'"),
        ({"reward_funcs": ["accuracy", "soft_format"]}, "unknown 'soft_format'"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        values(tmp_path, **changes)


def test_epochs_count_where_steps_do_not(tmp_path: Path) -> None:
    """As open-r1's recipes are written; a share of the updates stays one, for their number follows from the data."""
    made = values(tmp_path, max_steps=-1, num_train_epochs=1, save_steps=20)["train"]
    assert (made["num_train_epochs"], made["warmup_steps"], made["save_steps"]) == (1.0, 0.1, 10)
    assert "max_steps" not in made
    assert values(tmp_path, max_steps=None, save_steps=20)["train"]["num_train_epochs"] == 3.0
    counted = values(tmp_path, num_train_epochs=1)["train"]
    assert counted["max_steps"] == 100
    assert "num_train_epochs" not in counted


def test_what_is_off_is_no_obstacle(tmp_path: Path) -> None:
    assert values(tmp_path, load_in_4bit=False, chat_template=None, fp16=False) == values(tmp_path)


def test_the_command_prints_a_recipe_that_can_be_read(tmp_path: Path) -> None:
    path = file(tmp_path, max_steps=-1)
    said = CliRunner().invoke(app, ["recipes", "import", str(path), "--processes", "8", "max_steps=200"])
    assert said.exit_code == 0, said.output
    assert said.stdout.splitlines()[:2] == [
        "# From flat.yaml, for 8 processes; launch it with as many.",
        "# Left out, for they change nothing that is learned: do_eval, hub_model_id.",
    ]
    assert yaml.safe_load(said.stdout) == values(tmp_path)
    assert "gsm8k_grpo.yaml: " in CliRunner().invoke(app, ["recipes"]).stdout
