"""The trained models on a real small one: what is refused, what LoRA touches, and what a bad number does."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from llmrl.algorithms.grpo import GRPO
from llmrl.batch import Batch
from llmrl.chat import load_tokenizer
from llmrl.errors import CheckpointError, TrainingError
from llmrl.protocols import Forward, Loss, Update
from llmrl.recipe import parse
from llmrl.samples import Sample
from llmrl.train.checkpoints import export
from llmrl.train.learners import Learners
from llmrl.train.loop import train
from llmrl.train.parallel import accelerator
from llmrl.train.run import Run
from llmrl.train.weight_sync import named_weights
from tests.builders import changed, sample

LORA = {"use_peft": True, "lora_r": 4, "lora_alpha": 8}


@pytest.fixture
def models(tiny_model_dir: Path) -> Callable[..., Learners]:
    def build(needs: frozenset[Any] = frozenset(), train: dict[str, Any] | None = None, **model: Any) -> Learners:
        recipe = parse(
            {
                "model": {"policy": str(tiny_model_dir), **model},
                "data": {"name": "arithmetic"},
                "reward": {"name": "numeric"},
                "algorithm": {"name": "grpo"},
                "train": {"report_to": "none", **(train or {})},
            }
        )
        return Learners(recipe, accelerator(recipe.train), needs)

    return build


def step(count: int = 8) -> list[Sample]:
    """A group of rows of random tokens with random rewards."""
    random = Random(3)
    rows = []
    for episode in range(count):
        length = random.randint(4, 20)
        rows.append(
            sample(
                group="0/p",
                episode=episode,
                reward=random.random(),
                turn_rewards=[0.0],
                token_ids=[random.randrange(10, 250) for _ in range(length)],
                turn_ids=[-1, -1] + [0] * (length - 2),
                action_mask=[False, False] + [True] * (length - 2),
                sampled_logprobs=[0.0] * length,
            )
        )
    return rows


def on_policy(found: Learners, rows: list[Sample]) -> list[Sample]:
    """Credited rows whose engine agrees with the trainer."""
    scored = [row.assign(sampled_logprobs=v) for row, v in zip(rows, found.policy.logprobs(rows), strict=True)]
    return GRPO().credit(scored)


def weights(found: Learners) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in found.policy.net.named_parameters()}


# Learning


def test_an_update_makes_good_answers_likelier(models: Callable[..., Learners]) -> None:
    found = models()
    rows = on_policy(found, step())
    before = found.policy.logprobs(rows)
    for _ in range(5):
        list(found.fit(rows, Update("policy", GRPO().loss), seed=0, rate=1e-3))
    after = found.policy.logprobs(rows)
    gains = [sum(b) - sum(a) for a, b in zip(before, after, strict=True)]
    credit = [sum(row.advantages) for row in rows]
    assert sum(gain * (c > 0) for gain, c in zip(gains, credit, strict=True)) > 0
    assert sum(gain * (c < 0) for gain, c in zip(gains, credit, strict=True)) < 0


def test_metrics_are_means_over_the_tokens_that_learn(models: Callable[..., Learners]) -> None:
    def loss(new: Forward, batch: Batch) -> Loss:
        return Loss(new.logprobs, {"one": torch.ones_like(new.logprobs), "id": batch.token_ids.float()})

    found = models(train={"tokens_per_device": 30})
    rows = [row.assign(weights=0.01) for row in step()]
    fit = found.policy.fit(rows, Update("policy", loss), scale=1.0, rate=0.0)
    tokens = [token for row in rows for token, on in zip(row.token_ids, row.action_mask, strict=True) if on]
    assert fit.metrics["one"] == 1.0
    assert fit.metrics["id"] == pytest.approx(sum(tokens) / len(tokens), rel=1e-5)
    assert fit.metrics["loss"] == pytest.approx(0.01 * sum(map(sum, found.policy.logprobs(rows))), rel=1e-5)
    assert fit.tokens == sum(len(row.token_ids) for row in rows)
    assert fit.slots >= fit.tokens


# What is not finite


@pytest.mark.parametrize(
    ("factor", "added"),
    [(float("nan"), 0.0), (float("inf"), 0.0), (1.0, float("nan"))],
    ids=["nan", "inf", "nan with a finite gradient"],
)
def test_a_loss_that_is_not_finite_in_one_row_changes_nothing(
    models: Callable[..., Learners], factor: float, added: float
) -> None:
    found = models(train={"tokens_per_device": 30})
    rows = on_policy(found, step())
    list(found.fit(rows, Update("policy", GRPO().loss), seed=0, rate=1e-3))  # so that Adam has moments to spoil
    marked = changed(rows[3], token_ids=[251, *rows[3].token_ids[1:]])

    def loss(new: Forward, batch: Batch) -> Loss:
        terms = GRPO().loss(new, batch).terms
        return Loss(torch.where((batch.token_ids == 251).any(1, keepdim=True), terms * factor + added, terms))

    before = weights(found)
    moments = deepcopy(found.policy.optimizer.state_dict()["state"])
    ((_, fit),) = found.fit([*rows[:3], marked, *rows[4:]], Update("policy", loss), seed=0, rate=1e-3)
    assert not fit.applied
    assert all(torch.equal(value, before[name]) for name, value in weights(found).items())
    now = found.policy.optimizer.state_dict()["state"]
    assert all(torch.equal(now[i][key], moments[i][key]) for i in moments for key in moments[i])
    ((_, fit),) = found.fit(rows, Update("policy", GRPO().loss), seed=0, rate=1e-3)
    assert fit.applied, "the next update is a clean one"


BREAKS = """
from dataclasses import dataclass

from llmrl.algorithms.grpo import GRPO
from llmrl.protocols import Loss


@dataclass(frozen=True, kw_only=True)
class Breaks(GRPO):
    def loss(self, new, batch):
        return Loss(super().loss(new, batch).terms * float("nan"))


def length(prompts, completions, **columns):
    return [float(len(completion[0]["content"])) for completion in completions]
"""


def test_a_run_stops_when_updates_go_on_being_skipped(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaks_the_loss.py").write_text(BREAKS)
    monkeypatch.syspath_prepend(tmp_path)
    recipe = parse(
        {
            "model": {"policy": str(tiny_model_dir)},
            "data": {"name": "arithmetic", "high": 9},
            "reward": {"name": "breaks_the_loss:length"},
            "algorithm": {"name": "breaks_the_loss:Breaks"},
            "engine": {"name": "hf"},
            "rollout": {"num_generations": 4, "prompts_per_step": 2, "max_completion_length": 8, "reward_workers": 1},
            "train": {"max_steps": 9, "max_nonfinite_updates": 2, "output_dir": str(tmp_path), "report_to": "none"},
        }
    )
    run = Run(recipe)
    before = weights(run.learners)
    expected = r"step 1: 2 updates in a row .* are in .*nonfinite-step-1.jsonl"
    with pytest.raises(TrainingError, match=expected) as caught, run:
        train(run)
    assert all(torch.equal(value, before[name]) for name, value in weights(run.learners).items())
    lines = [json.loads(line) for line in (run.folder / "nonfinite-step-1.jsonl").read_text().splitlines()]
    assert {line["group"].partition("/")[0] for line in lines} == {"2", "3"}, "the second step's problems"
    assert lines[0]["group"] in str(caught.value)
    metrics = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["updates/skipped"]) for line in metrics] == [(0, 1.0)]
    status = json.loads((run.folder / "manifest.json").read_text())["status"]
    assert status.startswith("stopped: TrainingError: step 1")


# LoRA


def adapted(models: Callable[..., Learners]) -> Learners:
    """A policy whose adapters have learned something."""
    found = models(frozenset({"ref_logprobs"}), **LORA)
    rows = on_policy(found, step())
    for _ in range(3):
        list(found.fit(rows, Update("policy", GRPO().loss), seed=0, rate=1e-2))
    return found


def test_lora_trains_adapters_only(models: Callable[..., Learners]) -> None:
    found = models(**LORA)
    before = weights(found)
    rows = on_policy(found, step())
    list(found.fit(rows, Update("policy", GRPO().loss), seed=0, rate=1e-2))
    moved = {name for name, value in weights(found).items() if not torch.equal(value, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    assert {name.split(".")[-4] for name in moved} == {
        f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")
    }


def test_lora_weights_reach_the_engine_merged_under_their_own_names(
    models: Callable[..., Learners], tiny_model_dir: Path
) -> None:
    from transformers import AutoModelForCausalLM

    found = adapted(models)
    sent = dict(named_weights(found.policy))
    base: Any = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    assert list(sent) == [name for name, _ in base.named_parameters()]
    merged = dict(deepcopy(found.policy.net.model).merge_and_unload().named_parameters())  # type: ignore[operator]
    assert sent.keys() == merged.keys()
    assert all(torch.equal(sent[name], merged[name]) for name in merged)
    changed = {name for name, value in base.named_parameters() if not torch.equal(sent[name], value)}
    assert changed == {name for name in sent if "_proj" in name}


def test_the_reference_of_lora_is_the_model_below(models: Callable[..., Learners]) -> None:
    found, base = adapted(models), models()
    rows = step()
    assert found.reference is None, "no second copy of the weights"
    asked = found.annotate(rows, {"ref_logprobs", "old_logprobs"})
    expected = base.policy.logprobs(rows)
    for row, values in zip(asked, expected, strict=True):
        assert row.ref_logprobs.tolist() == values.tolist()
        assert row.old_logprobs.tolist() != values.tolist()


def test_dropout_of_adapters_is_off_when_probabilities_are_asked(models: Callable[..., Learners]) -> None:
    found = models(**LORA, lora_dropout=0.5)
    rows = on_policy(found, step())
    list(found.fit(rows, Update("policy", GRPO().loss), seed=0, rate=1e-2))
    first, second = ([column.tolist() for column in found.policy.logprobs(rows)] for _ in range(2))
    assert first == second


@pytest.mark.parametrize("options", [{}, LORA], ids=["whole", "lora"])
def test_an_export_loads_and_says_the_same(
    models: Callable[..., Learners], options: dict[str, Any], tiny_model_dir: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = models(**options)
    rows = on_policy(found, step())
    list(found.fit(rows, Update("policy", GRPO().loss), seed=0, rate=1e-2))
    tokenizer = load_tokenizer(tiny_model_dir)
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "old.txt").write_text("of an export before")
    export({"": found}, tokenizer, tmp_path / "final")
    assert not (tmp_path / "final" / "old.txt").exists()

    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "final")
    ids = torch.tensor([rows[0].token_ids.tolist()])
    with torch.no_grad():
        expected = found.policy.net.model(input_ids=ids).logits
        assert torch.allclose(loaded(input_ids=ids).logits, expected, atol=1e-5)
    assert loaded.generation_config.eos_token_id == tokenizer.eos_token_id
    again = AutoTokenizer.from_pretrained(tmp_path / "final")
    assert again.chat_template == tokenizer.chat_template
    assert (tmp_path / "final" / "adapter" / "adapter_config.json").exists() == bool(options)


# What does not load


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("config.json: gone", r"broken has no config.json; expected a Hugging Face model folder"),
        ("model.safetensors: gone", r"broken does not load: OSError: .*model.safetensors"),
        ("model.safetensors: cut", r"broken does not load: SafetensorError: "),
        ("config.json: cut", r"broken does not load: OSError: .*not a valid JSON"),
    ],
)
def test_a_folder_that_is_no_model(
    models: Callable[..., Learners], tiny_model_dir: Path, tmp_path: Path, spoil: str, message: str
) -> None:
    import shutil

    folder = tmp_path / "broken"
    shutil.copytree(tiny_model_dir, folder)
    name, _, how = spoil.partition(": ")
    if how == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.raises(CheckpointError, match=rf"model.policy: .*{message}"):
        models(policy=str(folder))


def test_columns_follow_their_rows(models: Callable[..., Learners]) -> None:
    """Ragged rows in an order of chance, one of them twice, in micro-batches by length."""
    rows = step(12)
    rows = [rows[i] for i in Random(4).sample(range(12), 12)] + [step(12)[3]]
    policy = models(train={"tokens_per_device": 48}).policy
    together = policy.read(rows, ["logprobs", "entropy"])
    for row, columns in zip(rows, together, strict=True):
        (alone,) = policy.read([row], ["logprobs", "entropy"])
        for name, column in columns.items():
            assert column.tolist() == pytest.approx(alone[name].tolist(), abs=1e-5)
