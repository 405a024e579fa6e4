"""Plans of small recipes: memory by trace, batches in TRL's words, lengths, warnings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from llmrl.cli.main import app
from llmrl.planning.memory import total
from llmrl.planning.run import RunPlan, plan
from llmrl.planning.show import duration
from llmrl.planning.trace import Held, MicroBatchShape, trace
from llmrl.recipe import Recipe, parse


def recipe(folder: Path, **sections: Any) -> Recipe:
    values: dict[str, Any] = {
        "model": {"policy": str(folder)},
        "data": {"name": "arithmetic", "high": 9},
        "reward": {"name": "numeric"},
        "algorithm": {"name": "grpo"},
        "engine": {"name": "hf"},
        "rollout": {"num_generations": 4, "prompts_per_step": 2, "max_completion_length": 8, "max_prompt_length": 32},
        "train": {"max_steps": 10},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return parse(values)


@pytest.fixture(scope="module")
def planned(tiny_model_dir: Path) -> RunPlan:
    return plan(recipe(tiny_model_dir), gpus=8)


def test_held_counts_what_is_alive() -> None:
    with Held() as held:
        first = torch.ones(1000)
        second = first * 2
        view = second[:10]
        assert held.now == 8000
        del first
        assert held.now == 4000, "a view keeps its storage alone"
        del second
        assert held.now == 4000
        del view
    assert held.now == 0
    assert held.most == 8000


def test_a_trace_knows_weights_gradients_and_states() -> None:
    class States(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.frozen = nn.Embedding(10, 4), nn.Linear(4, 4).requires_grad_(False)

        def forward(self, input_ids: Any, position_ids: Any, use_cache: bool) -> Any:
            states = self.frozen(self.embedding(input_ids))
            return type("Output", (), {"last_hidden_state": states})()

    def make() -> tuple[Any, Any, Any]:
        body, head = States(), nn.Linear(4, 10, bias=False)
        return nn.ModuleList([body, head]), body, head

    found = trace(make, MicroBatchShape(rows=2, length=6, actions=3), vocabulary=10, chunk_mb=1)
    assert found.weights == 4 * (40 + 20 + 40)
    assert found.gradients == 4 * (40 + 40)
    assert found.optimiser == pytest.approx(2 * found.gradients, abs=16), "and a counter each"
    assert found.logits == 2 * 6 * 10 * 4
    assert found.peak > found.weights + found.gradients + found.optimiser


def test_parts_of_this_process(planned: RunPlan, tiny_model_dir: Path) -> None:
    from safetensors.torch import load_file

    weights = sum(weight.nbytes for weight in load_file(tiny_model_dir / "model.safetensors").values())
    assert planned.facts.parameters * 4 == weights
    assert planned.here["weights"] == pytest.approx(weights, rel=0.02), "and buffers"
    assert planned.here["gradients"] == weights
    assert planned.here["engine"] == weights
    assert planned.here["reference"] == planned.here["critic"] == 0
    assert planned.peak >= total(planned.here)


def test_a_reference_and_a_critic_come_on_top(planned: RunPlan, tiny_model_dir: Path) -> None:
    weights = planned.here["gradients"]
    ppo = plan(recipe(tiny_model_dir, algorithm={"name": "ppo", "kl_coef": 0.1}))
    assert ppo.here["reference"] == weights
    assert ppo.here["critic"] > 2.9 * weights * 0.8
    lora = plan(recipe(tiny_model_dir, model={"use_peft": True, "lora_r": 4}, algorithm={"name": "grpo", "beta": 0.1}))
    assert lora.here["reference"] == 0, "the reference of LoRA is the model below it"
    assert lora.here["gradients"] < 0.2 * weights


def test_stages_shard_their_parts(planned: RunPlan) -> None:
    alone, two, three = (planned.stages[stage] for stage in (0, 2, 3))
    parameters = planned.facts.parameters
    assert alone["gradients"] == 2 * 4 * parameters, "with the buckets of the exchange"
    assert two["weights"] == 4 * parameters
    assert two["optimiser"] == pytest.approx(12 * parameters / 8, rel=0.01)
    assert three["weights"] == pytest.approx(4 * parameters / 8, rel=0.01)
    assert alone["activations"] == two["activations"] == three["activations"]


def test_batches_are_trls(tiny_model_dir: Path) -> None:
    more = {"rollout": {"num_generations": 8, "prompts_per_step": 16}, "train": {"tokens_per_device": 100}}
    batch = plan(recipe(tiny_model_dir, algorithm={"name": "grpo", "num_iterations": 2}, **more), gpus=4).batch
    assert batch.generation_batch_size == 128
    assert batch.num_generations == 8
    assert batch.num_iterations == 2
    assert batch.per_device_train_batch_size * batch.gradient_accumulation_steps * 4 >= batch.rows_of_update == 128
    assert batch.optimiser_steps == 20
    assert "steps_per_generation 1, num_iterations 2: 20 optimiser steps in 10 steps" in batch.told()


WARNED: list[tuple[str, dict[str, Any]]] = [
    ("prompts are longer", {"data": {"high": 12}, "rollout": {"max_prompt_length": 8, "drop_long_prompts": True}}),
    ("references are longer", {"data": {"low": 900, "high": 999}, "rollout": {"max_completion_length": 3}}),
    ("was made for", {"rollout": {"max_completion_length": 5000}}),
    ("twice", {"data": {"high": 1}, "rollout": {"prompts_per_step": 64}}),
    (
        "KL penalty never acts: the reference copies",
        {
            "algorithm": {"beta": 0.1},
            "model": {"sync_ref_model": True, "ref_model_sync_steps": 1, "ref_model_mixup_alpha": 1.0},
        },
    ),
    ("KL penalty never acts: in the only", {"algorithm": {"beta": 0.1}, "train": {"max_steps": 1}}),
    ("KL penalty hardly acts", {"algorithm": {"beta": 1e-7}}),
    ("nothing is clipped", {"algorithm": {"epsilon": 0.1}}),
    ("warmup_steps", {"train": {"warmup_steps": 9}}),
    ("max_staleness 9", {"source": {"name": "asynchronous", "max_staleness": 9}, "algorithm": {}}),
    ("with LoRA", {"model": {"use_peft": True}, "train": {"learning_rate": 1e-6}}),
]


@pytest.mark.parametrize(("words", "sections"), WARNED, ids=[words for words, _ in WARNED])
def test_a_warning_and_its_reason(words: str, sections: dict[str, Any], tiny_model_dir: Path, planned: RunPlan) -> None:
    if "source" in sections:
        sections = {**sections, "algorithm": {"importance_sampling_correction": "token_truncate"}}
    assert not any(words in warning for warning in planned.warnings)
    found = plan(recipe(tiny_model_dir, **sections))
    assert any(words in warning for warning in found.warnings), found.warnings


def test_a_plain_recipe_has_no_warning(planned: RunPlan) -> None:
    assert planned.warnings == []


def test_memory_that_fits_nowhere_is_told(tiny_model_dir: Path) -> None:
    found = plan(recipe(tiny_model_dir), gpus=2, gpu_memory=0.001)
    assert any("no stage of ZeRO fits" in warning for warning in found.warnings)


def test_the_command_prints_and_saves(tiny_model_dir: Path, tmp_path: Path) -> None:
    import yaml

    path, out = tmp_path / "mine.yaml", tmp_path / "plan.json"
    path.write_text(yaml.safe_dump(recipe(tiny_model_dir).as_dict()))
    done = CliRunner().invoke(app, ["plan", str(path), "train.max_steps=5", "--gpus", "8", "--json", str(out)])
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert found["batch"]["steps"] == 5
    assert found["fits"] == {"0": True, "2": True, "3": True}
    assert found["time"]["seconds"] > 0
    for word in ("data parallel", "ZeRO 3", "activations", "per_device_train_batch_size", "references"):
        assert word in done.output


def test_a_small_run_is_told_in_small_units(tiny_model_dir: Path, tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe(tiny_model_dir).as_dict()))
    done = CliRunner().invoke(app, ["plan", str(path), "train.max_steps=1"])
    assert done.exit_code == 0, done.output
    assert "MiB, with micro-batches" in done.output
    assert not re.search(r"\b0\.00\b", done.output)
    assert re.search(r"[\d.]+ s for all", " ".join(done.output.split()))
    assert [duration(seconds) for seconds in (0.965, 90.0, 5400.0)] == ["0.96 s", "1.5 min", "1.5 h"]


def test_stored_rows_are_measured(tiny_model_dir: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"{i}+1=", "completion": "x" * i}) + "\n" for i in range(1, 9)))
    made = parse(
        {
            "model": {"policy": str(tiny_model_dir)},
            "algorithm": {"name": "bc"},
            "source": {"name": "offline", "path": str(rows)},
            "rollout": {"prompts_per_step": 8, "max_completion_length": 16, "max_prompt_length": 32},
            "train": {"max_steps": 1, "output_dir": str(tmp_path)},
        }
    )
    found = plan(made)
    assert found.lengths is not None
    assert found.lengths.action_max == 9, "the longest answer and the token that ends it"
    assert found.here["engine"] == 0
    assert found.batch.generation_batch_size == 8


def test_a_model_that_is_not_here_is_refused(tiny_model_dir: Path) -> None:
    done = CliRunner().invoke(app, ["plan", "recipes/gsm8k_grpo.yaml", "model.policy=./nowhere"])
    assert done.exit_code != 0
    assert "nowhere" in str(done.exception)


def test_the_cache_of_vllm_is_that_of_its_option_and_a_variable_is_stronger(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    made = recipe(tiny_model_dir, engine={"name": "vllm", "cpu_kvcache_space": 3})
    assert plan(made).here["kv cache"] == 3 * 2**30
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "2")
    assert plan(made).here["kv cache"] == 2 * 2**30
    assert plan(recipe(tiny_model_dir)).here["kv cache"] == 0
