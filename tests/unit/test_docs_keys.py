"""Keys and metrics that pages name exist; tables for users of TRL are what the importer makes of its keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmrl import plugins, recipe
from llmrl.cli import import_trl
from llmrl.recipe.options import PLUGINS
from tests.recipe_sections import OPTIONS

ROOT = Path(__file__).parents[2]
PAGES = ("from_trl", "from_verl", "from_openrlhf")
BASE = {
    "model_name_or_path": "Qwen/Qwen2.5-0.5B",
    "dataset_name": "somebody/maths",
    "use_vllm": True,
    "lora_target_modules": "all-linear",
    "reward_funcs": ["accuracy", "format"],
    "max_steps": 2000,
    "per_device_train_batch_size": 16,
}
CHANGED: dict[str, Any] = {
    "model_name_or_path": "other/model",
    "model_revision": "v2",
    "dtype": "bfloat16",
    "torch_dtype": "bfloat16",
    "attn_implementation": "eager",
    "trust_remote_code": True,
    "system_prompt": "Think.",
    "use_peft": True,
    "chat_template_kwargs": {"enable_thinking": False},
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.1,
    "lora_target_modules": ["q_proj"],
    "sync_ref_model": True,
    "ref_model_mixup_alpha": 0.5,
    "ref_model_sync_steps": 64,
    "dataset_name": "other/data",
    "dataset_config": "all",
    "dataset_train_split": "test",
    "dataset_prompt_column": "ask",
    "reward_funcs": ["format"],
    "reward_weights": [1.0, 0.5],
    "num_generations": 4,
    "max_completion_length": 64,
    "max_prompt_length": 64,
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 5,
    "min_p": 0.1,
    "epsilon": 0.1,
    "epsilon_high": 0.3,
    "delta": 5.0,
    "beta": 0.1,
    "scale_rewards": "batch",
    "loss_type": "grpo",
    "importance_sampling_level": "sequence",
    "mask_truncated_completions": True,
    "entropy_coef": 0.01,
    "top_entropy_quantile": 0.2,
    "off_policy_mask_threshold": 0.5,
    "num_iterations": 2,
    "generation_batch_size": 32,
    "steps_per_generation": 2,
    "per_device_train_batch_size": 32,
    "gradient_accumulation_steps": 2,
    "max_steps": 800,
    "num_train_epochs": 2,
    "warmup_steps": 10,
    "warmup_ratio": 0.1,
    "save_steps": 50,
    "save_strategy": "no",
    "save_total_limit": 5,
    "learning_rate": 1e-5,
    "lr_scheduler_type": "cosine",
    "weight_decay": 0.1,
    "adam_beta1": 0.8,
    "adam_beta2": 0.95,
    "max_grad_norm": 0.5,
    "bf16": False,
    "gradient_checkpointing": False,
    "seed": 7,
    "output_dir": "elsewhere",
    "run_name": "mine",
    "report_to": "wandb",
    "use_vllm": False,
    "vllm_gpu_memory_utilization": 0.7,
    "vllm_importance_sampling_correction": False,
    "vllm_importance_sampling_mode": "token_truncate",
    "vllm_importance_sampling_clip_max": 2.0,
}
BESIDE: dict[str, dict[str, Any]] = {  # what a key needs to be taken
    **{key: {"use_peft": True} for key in ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules")},
    **{key: {"vllm_importance_sampling_correction": False} for key in ("top_p", "top_k", "min_p")},
    **{key: {"sync_ref_model": True, "beta": 0.1} for key in ("ref_model_mixup_alpha", "ref_model_sync_steps")},
    "sync_ref_model": {"beta": 0.1},
    "num_train_epochs": {"max_steps": -1},
}


ELSEWHERE = {("errors.md", "train.learnin_rate"), ("errors.md", "train.max_steps")}  # what messages are about
FAMILIES = (
    "rewards|completions|audit|sampling|sync|staleness|perf|time|clip_ratio|updates|reward_latency|objective|values|"
    "advantages|returns"
)


def text(page: str) -> str:
    return (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")


def rows(page: str) -> Iterator[tuple[list[str], list[str]]]:
    """Names in the first and in the second column of each row whose second column has names."""
    for line in text(page).splitlines():
        if line.startswith("| "):
            first, second = (re.findall(r"`([^`]+)`", cell) for cell in line.split(" | ")[:2])
            yield first, second


def exists(key: str) -> bool:
    """True if a recipe can have this key, of a section or of one of its plug-ins."""
    section, _, name = key.partition(".")
    if section in OPTIONS:
        return name in {field.name for field in fields(OPTIONS[section])}
    if section not in PLUGINS:
        return False
    kind: Any = section
    made = (plugins.find(kind, plugin) for plugin in plugins.names(kind))
    return name == "name" or any(name in {field.name for field in fields(each)} for each in made)


def keys(words: list[str]) -> list[str]:
    sections = "|".join([*OPTIONS, *PLUGINS])
    return [word for word in words if re.fullmatch(rf"({sections})\.\w+", word)]


def settings() -> Iterator[tuple[str, str, str]]:
    """Page, key and value of each `section.key=value` that a page shows between backticks or in a command."""
    shown = rf"(?:`|^|[ '])((?:{'|'.join([*OPTIONS, *PLUGINS])})\.\w+)=([^\s`']+)"
    for path in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]):
        page = path.read_text(encoding="utf-8")
        page = re.sub(r"^```text\n.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)  # other programs' commands
        for key, value in dict.fromkeys(re.findall(shown, page, re.MULTILINE)):
            if (path.name, key) not in ELSEWHERE and key != "data.train":  # of recipes of reward models
                yield str(path.relative_to(ROOT)), key, value


@pytest.mark.parametrize(("page", "key", "value"), settings())
def test_a_setting_of_a_page_is_one(page: str, key: str, value: str) -> None:
    assert exists(key)
    section, _, name = key.partition(".")
    if section in OPTIONS and not value.startswith(("{", "[")):
        required = {"policy": "x"} if section == "model" else {}
        plugins.construct(OPTIONS[section], {**required, name: yaml.safe_load(value)}, f"{page}: {section}")


def test_each_metric_of_the_troubleshooting_page_is_explained() -> None:
    explained = text("metrics") + "".join(text(f"algorithms/{name}") for name in plugins.names("algorithm"))
    named = set(re.findall(rf"`((?:{FAMILIES})/[\w/<>]+)`", text("troubleshooting")))
    assert len(named) > 20
    spelt = set(re.findall(r"`/?([^`\n]+)`", explained))  # a row of a table may leave out the family
    assert not [name for name in named if not {name, name.rpartition("/")[2]} & spelt]


@pytest.mark.parametrize("page", PAGES)
def test_each_key_of_a_table_is_one(page: str) -> None:
    named = [key for _, second in rows(page) for key in keys(second)]
    assert len(named) > 50
    assert not [key for key in named if not exists(key)]


def test_a_key_that_is_not_there_is_seen() -> None:
    assert exists("algorithm.epsilon_high")
    assert exists("train.max_steps")
    assert not exists("algorithm.epsilon_hi")
    assert not exists("trainer.max_steps")


def imported(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """Values that a flat file becomes, by `section.key`."""
    path = tmp_path / "flat.yaml"
    path.write_text(yaml.safe_dump({**BASE, **changes}))
    values = import_trl.read(path, 1).values
    return {f"{section}.{key}": value for section, entries in values.items() for key, value in entries.items()}


TRL_ROWS = [
    (key, target)
    for first, second in rows("from_trl")
    if second and (keys(second) or second == ["reward"])
    for key in first
    if re.fullmatch(r"\w+", key)
    for target in second[:1]
    if key in import_trl.USED.union(*import_trl.SAME.values())
]


@pytest.mark.parametrize(("key", "target"), [row for row in TRL_ROWS if row[0] != "vllm_mode"])
def test_a_key_of_trl_lands_where_the_page_puts_it(tmp_path: Path, key: str, target: str) -> None:
    beside = BESIDE.get(key, {})
    before, after = imported(tmp_path, **beside), imported(tmp_path, **beside, **{key: CHANGED[key]})
    differ = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert target in {name.partition(".")[0] if target == "reward" else name for name in differ}


def test_the_page_has_every_key_that_the_importer_knows() -> None:
    shown = {key for first, _ in rows("from_trl") for key in first}
    known = import_trl.USED.union(*import_trl.SAME.values())
    assert known <= shown
    assert set(import_trl.REASONS) <= shown


@pytest.mark.parametrize("page", PAGES)
def test_each_metric_of_a_table_is_explained(page: str) -> None:
    explained = text("metrics") + "".join(text(f"algorithms/{name}") for name in plugins.names("algorithm"))
    section = text(page).split("\n## Metrics\n")[1].split("\n## ")[0]
    lines = section.splitlines()
    cells = [line.split(" | ")[1] for line in lines if line.startswith("| `")] or lines
    named = [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]
    named = [word for word in named if word not in (*plugins.names("algorithm"), *plugins.names("reward"))]
    assert len(named) > 5
    assert not [name for name in named if f"`{name}`" not in explained]


@pytest.mark.parametrize("page", PAGES[1:])
def test_the_recipe_of_a_page_is_one(page: str) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", text(page), re.DOTALL)
    values = yaml.safe_load(block)
    values["reward"] = {"name": "math_verify"}  # its function is the reader's
    made = recipe.parse(values, page)
    assert made.rollout.num_generations == 8
