"""Reward models of a few thousand weights, trained for real, and their scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from llmrl.errors import CheckpointError, DataError
from llmrl.plugins import construct
from llmrl.reward_models.card import FILE
from llmrl.reward_models.model import RewardModel, load
from llmrl.reward_models.recipe import RewardRecipe
from llmrl.reward_models.rows import Answer
from llmrl.train.reward_models import train

PAIRS = [{"prompt": f"say {n}", "chosen": f"yes {n}", "rejected": "no " * (1 + n % 3)} for n in range(24)]
LABELLED = [{"prompt": f"say {n}", "response": r, "label": y} for n in range(24) for r, y in (("yes", 1), ("no", 0))]
STEPS = [{"prompt": f"say {n}", "completions": ["a", "b" * (n % 2 + 1)], "labels": [1, n % 2]} for n in range(24)]
ROWS: dict[str, list[dict[str, Any]]] = {"outcome": PAIRS, "verifier": LABELLED, "token": LABELLED, "process": STEPS}


def recipe(kind: str, model: Path, folder: Path, **sections: Any) -> RewardRecipe:
    data = folder / f"{kind}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS[kind]))
    fit = {"max_steps": 12, "learning_rate": 1e-2, "per_device_train_batch_size": 8, "output_dir": str(folder / "out")}
    made: dict[str, Any] = {
        "kind": kind,
        "model": {"model_name_or_path": str(model)},
        "data": {"train": str(data)},
        "input": {"max_length": 64},
    }
    for name, values in sections.items():
        made[name] = {**made.get(name, {}), **values}
    made["train"] = {**fit, **sections.get("train", {})}
    built: RewardRecipe = construct(RewardRecipe, made, "test")
    return built


def trained(kind: str, model: Path, folder: Path, **sections: Any) -> tuple[Path, list[str]]:
    said: list[str] = []
    return train(recipe(kind, model, folder, **sections), kind, said.append), said


@pytest.fixture(scope="module")
def outcome(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained("outcome", tiny_model_dir, tmp_path_factory.mktemp("outcome"))[0]


def test_an_outcome_model_prefers_what_it_was_taught(outcome: Path) -> None:
    model = load(outcome, "outcome")
    good, bad = model.sequences([Answer(prompt="say 99", response="yes 99"), Answer(prompt="say 99", response="no ")])
    assert good.logits[0] > bad.logits[0] + 1  # type: ignore[operator]
    assert model.card.calibration is not None
    assert model.card.calibration.low < model.card.calibration.mean < model.card.calibration.high
    assert (model.scored, model.truncated) == (2, 0)


def test_the_score_is_that_of_trls_trainer_whatever_pads(outcome: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    """Padding is the end of sequence, as is usual: who looks for the padding's id reads one token too early."""
    from transformers import AutoTokenizer

    from llmrl.train.reward_trainers import pair_trainer

    model = load(outcome)
    rows = [model.encoder(Answer(prompt="p" * n, response="r" * (n % 4))) for n in (1, 5, 9, 4)]
    tokenizer = AutoTokenizer.from_pretrained(outcome)
    tokenizer.pad_token = tokenizer.eos_token
    still = recipe("outcome", outcome, tmp_path, train={"max_steps": 1, "learning_rate": 0.0})
    pairs = [(rows[0], rows[1], None), (rows[2], rows[3], None)]
    made = pair_trainer(still, pairs, tmp_path, tokenizer, print)
    made.train()  # here the trainer makes the model's padding that of the tokenizer
    (batch,) = list(made.get_train_dataloader())
    with torch.no_grad():
        theirs = made.model.eval()(**batch).logits.squeeze(-1)
    ours = {len(row.token_ids): model_score(model, row) for row in rows}
    lengths = batch["attention_mask"].sum(-1).tolist()
    assert theirs.tolist() == pytest.approx([ours[length] for length in lengths], abs=1e-5)


def model_score(model: RewardModel, row: Any) -> float:
    from llmrl.reward_models.network import padded, token_logits

    with torch.no_grad():
        return float(token_logits(model.network, *padded([row]))[0, -1])


def test_scores_do_not_depend_on_their_company(outcome: Path) -> None:
    draw = Random(0)
    answers = [Answer(prompt="p" * draw.randint(1, 30), response="r" * draw.randint(0, 30)) for _ in range(20)]
    alone = [load(outcome, tokens_per_batch=1).sequences([one])[0].logits[0] for one in answers[:5]]
    few, many = (load(outcome, tokens_per_batch=n).sequences(answers) for n in (40, 10_000))
    assert [one.logits[0] for one in few] == pytest.approx([one.logits[0] for one in many], abs=1e-5)
    assert [one.logits[0] for one in many[:5]] == pytest.approx(alone, abs=1e-5)
    assert len({one.logits[0] for one in many}) == 20


def test_truncation_is_counted(outcome: Path) -> None:
    model = load(outcome)
    (found,) = model.sequences([Answer(prompt="p" * 100, response="yes")])
    assert found.truncated
    assert found.tokens == 64
    assert (model.scored, model.truncated) == (1, 1)


def test_a_changed_chat_template_and_a_cut_copy_are_refused(outcome: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(outcome, folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    with pytest.raises(CheckpointError, match="the tokenizer's chat template is not the one"):
        load(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="the weights are not those of"):
        load(folder)
    (folder / FILE).unlink()
    with pytest.raises(CheckpointError, match=r"no reward_model\.json"):
        load(folder)


def test_rows_without_room_are_said(tiny_model_dir: Path, tmp_path: Path) -> None:
    _, said = trained("outcome", tiny_model_dir, tmp_path, input={"max_length": 18}, train={"max_steps": 1})
    assert any("rows are longer than 18 tokens: left out" in line for line in said)
    with pytest.raises(DataError, match="none of the 22 rows fits; the shortest has"):
        trained("outcome", tiny_model_dir, tmp_path, input={"max_length": 4})


def test_margins_are_demanded_of_rows_that_have_them(tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not every row names a `margin`"):
        trained("outcome", tiny_model_dir, tmp_path, loss={"margin": True})
