"""Reward models of a few thousand weights, trained for real, and their scores."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from llmrl.errors import CheckpointError, DataError
from llmrl.evaluation.reward_model import report
from llmrl.plugins import construct
from llmrl.reward_models.card import FILE
from llmrl.reward_models.model import RewardModel, Scored, load
from llmrl.reward_models.recipe import RewardRecipe
from llmrl.reward_models.rows import AnswerRow, LabelledRow
from llmrl.reward_models.scorer import scorer
from llmrl.train.reward_model.run import train

PAIRS = [{"prompt": f"say {n}", "chosen": f"yes {n}", "rejected": "no " * (1 + n % 3)} for n in range(24)]
LABELLED = [{"prompt": f"say {n}", "response": r, "label": y} for n in range(24) for r, y in (("yes", 1), ("no", 0))]
STEPS = [{"prompt": f"say {n}", "completions": ["a", "b" * (n % 2 + 1)], "labels": [1, n % 2]} for n in range(24)]
ROWS: dict[str, list[dict[str, Any]]] = {"outcome": PAIRS, "verifier": LABELLED, "token": LABELLED, "process": STEPS}


def recipe(kind: str, base: Path, folder: Path, **sections: Any) -> RewardRecipe:
    folder.mkdir(exist_ok=True)
    data = folder / f"{kind}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS[kind]))
    fit = {"max_steps": 12, "learning_rate": 1e-2, "per_device_train_batch_size": 8, "output_dir": str(folder / "out")}
    made: dict[str, Any] = {
        "kind": kind,
        "model": {"model_name_or_path": str(base)},
        "data": {"train": str(data)},
        "input": {"max_length": 64},
    }
    for name, values in sections.items():
        made[name] = {**made.get(name, {}), **values}
    made["train"] = {**fit, **sections.get("train", {})}
    built: RewardRecipe = construct(RewardRecipe, made, "test")
    return built


def trained(kind: str, base: Path, folder: Path, **sections: Any) -> tuple[Path, list[str]]:
    said: list[str] = []
    return train(recipe(kind, base, folder, **sections), kind, said.append), said


@pytest.fixture(scope="module")
def outcome(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained("outcome", tiny_model_dir, tmp_path_factory.mktemp("outcome"))[0]


def test_an_outcome_model_prefers_what_it_was_taught(outcome: Path) -> None:
    model = load(outcome, "outcome")
    good, bad = model.sequences(
        [AnswerRow(prompt="say 99", response="yes 99"), AnswerRow(prompt="say 99", response="no ")]
    )
    assert good.logits[0] > bad.logits[0] + 1  # type: ignore[operator]
    assert model.card.calibration is not None
    assert model.card.calibration.low < model.card.calibration.mean < model.card.calibration.high
    assert (model.scored, model.truncated) == (2, 0)


def test_the_accuracy_on_rows_that_were_held_out_is_printed(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder, said = trained("outcome", tiny_model_dir, tmp_path)
    assert said[-1] == f"reward model: {folder}\nnext, in a recipe: reward: {{name: reward_model, path: {folder}}}"
    (line,) = [line for line in said if line.startswith("held out")]
    assert re.fullmatch(
        r"held out, \d+ rows: pairwise_accuracy [\d.]+ \([\d.]+ to [\d.]+\); more by `llmrl eval-rm`", line
    )


def test_the_score_is_that_of_trls_trainer_whatever_pads(outcome: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    """Padding is the end of sequence, as is usual: who looks for the padding's id reads one token too early."""
    from transformers import AutoTokenizer

    from llmrl.train.reward_model.trainers import PairRow, pair_trainer

    model = load(outcome)
    rows = [model.encoder(AnswerRow(prompt="p" * n, response="r" * (n % 4))) for n in (1, 5, 9, 4)]
    tokenizer = AutoTokenizer.from_pretrained(outcome)
    tokenizer.pad_token = tokenizer.eos_token
    still = recipe("outcome", outcome, tmp_path, train={"max_steps": 1, "learning_rate": 0.0})
    pairs = [PairRow(rows[0], rows[1]), PairRow(rows[2], rows[3])]
    made = pair_trainer(still, pairs, tmp_path, tokenizer, print)
    made.train()  # here the trainer makes the model's padding that of the tokenizer
    (batch,) = list(made.get_train_dataloader())
    with torch.no_grad():
        batch.pop("weight")
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
    answers = [AnswerRow(prompt="p" * draw.randint(1, 30), response="r" * draw.randint(0, 30)) for _ in range(20)]
    alone = [load(outcome, tokens_per_batch=1).sequences([one])[0].logits[0] for one in answers[:5]]
    few, many = (load(outcome, tokens_per_batch=n).sequences(answers) for n in (40, 10_000))
    assert [one.logits[0] for one in few] == pytest.approx([one.logits[0] for one in many], abs=1e-5)
    assert [one.logits[0] for one in many[:5]] == pytest.approx(alone, abs=1e-5)
    assert len({one.logits[0] for one in many}) == 20


def test_truncation_is_counted(outcome: Path) -> None:
    model = load(outcome)
    (found,) = model.sequences([AnswerRow(prompt="p" * 100, response="yes")])
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
        trained("outcome", tiny_model_dir, tmp_path / "short", input={"max_length": 4})


def test_margins_are_demanded_of_rows_that_have_them(tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not every row names a `margin`"):
        trained("outcome", tiny_model_dir, tmp_path, loss={"margin": True})


@pytest.mark.parametrize("loss", [{}, {"center_rewards_coefficient": 0.01, "margin": True}])
def test_a_problem_with_many_pairs_counts_as_one(loss: dict[str, Any], tiny_model_dir: Path, tmp_path: Path) -> None:
    """The same pair three times over is one problem, and teaches what it teaches once."""
    from safetensors.torch import load_file

    def moved(name: str, rows: list[dict[str, Any]], weigh: str) -> torch.Tensor:
        data = tmp_path / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        made = recipe(
            "outcome",
            tiny_model_dir,
            tmp_path,
            data={"train": str(data), "test_share": 0.0},
            loss={"weigh": weigh, **loss},
            train={"max_steps": 3, "learning_rate": 1e-3, "output_dir": str(tmp_path), "max_grad_norm": 1e9},
        )
        state = load_file(train(made, name, lambda _: None) / "model.safetensors")
        return torch.cat([state[key].flatten() for key in sorted(state)])

    one, two = ({**pair, "margin": 0.5} for pair in PAIRS[:2])
    once = moved("once", [one, two], "pair")
    often = moved("often", [one, one, one, two], "problem")
    plain = moved("plain", [one, one, one, two], "pair")
    assert float((often - once).norm()) < 0.02 * float((plain - once).norm())


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("verifier", {}),
        ("verifier", {"positions": "all_tokens"}),
        ("verifier", {"positions": "all_tokens", "average": "sequence"}),
        ("token", {}),
    ],
)
def test_right_and_wrong_answers_are_told_apart(
    kind: str, loss: dict[str, str], tiny_model_dir: Path, tmp_path: Path
) -> None:
    folder, _ = trained(
        kind, tiny_model_dir, tmp_path, loss=loss, train={"max_steps": 80 if kind == "verifier" and not loss else 25}
    )
    model = load(folder)
    yes, no = model.sequences([AnswerRow(prompt="say 99", response="yes"), AnswerRow(prompt="say 99", response="no")])
    assert (yes.logits[0] or 0.0) > 0.5
    assert (no.logits[0] or 0.0) < -0.5
    if kind == "token" or loss:
        (tokens,) = model.tokens([AnswerRow(prompt="say 99", response="yes")])
        assert len(tokens.logits) == 4  # y e s and the end
        assert tokens.ends == [1, 2, 3, 3]
    if kind == "token":
        assert yes.logits[0] == pytest.approx(sum(x or 0.0 for x in tokens.logits) / 4, abs=1e-5)


def test_steps_are_told_apart_and_a_process_model_has_no_other_scores(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder, _ = trained("process", tiny_model_dir, tmp_path, train={"max_steps": 60})
    model = load(folder, "process")
    (found,) = model.steps([AnswerRow(prompt="say 9", steps=["a", "bb"])])
    (other,) = model.steps([AnswerRow(prompt="say 8", steps=["a", "b"])])
    assert [(x or 0.0) > 0 for x in found.logits] == [True, True]
    assert [(x or 0.0) > 0 for x in other.logits] == [True, False]
    rows = [LabelledRow(answer=AnswerRow(prompt=f"say {n}", steps=["a", "b" * (n % 2 + 1)]), labels=[1.0, float(n % 2)],
                     problem=str(n)) for n in range(24)]  # fmt: skip
    numbers = report(model, rows).as_dict()
    assert numbers["first_error_accuracy"]["value"] == numbers["step_auc"] == numbers["first_error_f1"] == 1.0
    assert numbers["weakest_is_last_frac"] > 0.4
    with pytest.raises(CheckpointError, match="a process model scores steps"):
        model.sequences([AnswerRow(prompt="q", response="r")])
    with pytest.raises(CheckpointError, match="has no scores of tokens"):
        model.tokens([AnswerRow(prompt="q", response="r")])


def test_lora_trains_adapters_and_the_head_and_is_merged(tiny_model_dir: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder, _ = trained(
        "verifier",
        tiny_model_dir,
        tmp_path,
        model={"use_peft": True, "lora_r": 4},
        train={"max_steps": 25},
        loss={"positions": "all_tokens"},
    )
    base, made = load_file(tiny_model_dir / "model.safetensors"), load_file(folder / "model.safetensors")
    assert set(made) - set(base) == {"score.weight", "score.bias"}
    moved = {name for name in base if name in made and not torch.equal(base[name], made[name])}
    assert "model.layers.0.self_attn.q_proj.weight" in moved
    assert "model.embed_tokens.weight" not in moved
    yes, no = load(folder).sequences([AnswerRow(prompt="say 99", response=said) for said in ("yes", "no")])
    assert (yes.logits[0] or 0.0) > (no.logits[0] or 0.0) + 1


def test_accumulation_leaves_the_gradient_as_it_is(tiny_model_dir: Path, tmp_path: Path) -> None:
    """A step of SGD-like size on 8 rows of unlike lengths: together, and in four pieces."""
    from safetensors.torch import load_file

    states = []
    for name, rows, pieces in (("whole", 8, 1), ("pieces", 2, 4)):
        fit = {"max_steps": 1, "per_device_train_batch_size": rows, "gradient_accumulation_steps": pieces,
               "learning_rate": 1e-3, "output_dir": str(tmp_path / name), "max_grad_norm": 1e9}  # fmt: skip
        folder, _ = trained("process", tiny_model_dir, tmp_path, train=fit)
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        states.append((load_file(folder / "model.safetensors"), lines[-1]["train_loss"]))
    (whole, loss), (pieces_, other) = states
    assert loss == pytest.approx(other, abs=1e-6)
    # AdamW moves a weight by its learning rate even where the gradient is all rounding, so compare as a whole
    start = load_file(tiny_model_dir / "model.safetensors")
    moved = torch.cat([(whole[name] - start[name]).flatten() for name in whole if name in start])
    differs = torch.cat([(pieces_[name] - whole[name]).flatten() for name in whole if name in start])
    assert float(differs.norm() / moved.norm()) < 1e-2


def test_a_report_of_each_kind_of_row(outcome: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    from llmrl.evaluation.reward_model import run

    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in [*PAIRS, {**PAIRS[0], "rejected": PAIRS[0]["chosen"]}]))
    found = run(str(outcome), str(pairs), out=tmp_path / "pairs").as_dict()
    assert found["pairs"] == 24
    assert found["left out: chosen equals rejected"] == 1
    assert found["pairwise_accuracy"]["value"] == 1.0
    assert found["margin_mean"] > 1
    assert (tmp_path / "pairs" / "calibration.png").stat().st_size > 5000
    assert json.loads((tmp_path / "pairs" / "report.json").read_text()) == found
    verifier, _ = trained(
        "verifier", tiny_model_dir, tmp_path, loss={"positions": "all_tokens"}, train={"max_steps": 25}
    )
    data = tmp_path / "verifier.jsonl"
    answers = run(str(verifier), str(data), out=tmp_path / "answers").as_dict()
    assert answers["auc"] == answers["auc_within_problem"]["value"] == 1.0
    assert answers["best_of_1"]["value"] == 0.5
    assert answers["best_of_2"]["value"] == 1.0
    assert "best_of_4" not in answers
    assert answers["brier"] < 0.25
    with pytest.raises(DataError, match="did you mean 'outcome'"):
        run(str(verifier), str(data), "outcomes")


def test_a_folder_that_holds_a_model_is_never_trained_over(outcome: Path, tiny_model_dir: Path) -> None:
    before = (outcome / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=r"already holds a model or a run \(metrics.jsonl, .*json.*\)"):
        trained("outcome", tiny_model_dir, outcome.parents[1])
    assert (outcome / "model.safetensors").read_bytes() == before


def test_scores_follow_their_answers(outcome: Path) -> None:
    """Ragged answers in an order of chance, some twice, in batches by length: each has the score it has alone."""
    draw = Random(2)
    rows = [AnswerRow(prompt=f"say {n % 5}", response="yes no " * draw.randrange(1, 8) + str(n % 7)) for n in range(30)]
    rows += rows[:6]
    draw.shuffle(rows)
    model = load(outcome, "outcome", tokens_per_batch=200)
    together = [answer.logits[0] for answer in model.sequences(rows)]
    alone = [model.sequences([row])[0].logits[0] for row in rows]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len({round(float(logit or 0.0), 4) for logit in alone}) > 20, "scores tell answers apart"


def test_calls_that_wait_together_each_get_their_own_scores(outcome: Path) -> None:
    model = scorer(str(outcome), None, "float32", 200)
    calls = [[AnswerRow(prompt="say 1", response="yes " * (n + m + 1)) for m in range(n % 3)] for n in range(9)]

    async def ask() -> list[list[Scored]]:
        return await asyncio.gather(*(model.score(RewardModel.sequences, answers) for answers in calls))

    for answers, found in zip(calls, asyncio.run(ask()), strict=True):
        alone = [RewardModel.sequences(load(outcome), [answer])[0].logits[0] for answer in answers]
        assert [each.logits[0] for each in found] == pytest.approx(alone, abs=1e-5)
