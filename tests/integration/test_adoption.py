"""Reward models as other libraries leave them, made into ours: the scores are theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from typer.testing import CliRunner

from llmrl.cli.main import app
from llmrl.errors import CheckpointError, DataError
from llmrl.plugins import build
from llmrl.reward_models.model import RewardModel, load
from llmrl.reward_models.rows import AnswerRow
from llmrl.train.reward_model.adopt import Adoption, adopt

ANSWERS = [AnswerRow(prompt="1+2=", response="so 3"), AnswerRow(prompt="40+2=", response="it is 42, I think")]
STEPPED = [
    AnswerRow(prompt="1+2=", response="", steps=["a", "bcd"]),
    AnswerRow(prompt="40+2=", response="", steps=["e"]),
]


def left(base: Path, folder: Path, maker: Any, labels: int) -> Path:
    """A classifier with random weights, saved by Transformers."""
    torch.manual_seed(0)
    model = maker.from_pretrained(base, num_labels=labels)
    torch.nn.init.normal_(model.score.weight, std=0.5)
    if model.score.bias is not None:
        torch.nn.init.normal_(model.score.bias)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.inference_mode()
def logits(model: Any, adopted: RewardModel, answer: AnswerRow) -> torch.Tensor:
    """Logits of every token, or of the whole, by the original."""
    ids = torch.tensor([adopted.encoder(answer).token_ids])
    found: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
    return found


def test_a_classifier_of_steps_with_two_labels_keeps_its_chances(tiny_model_dir: Path, tmp_path: Path) -> None:
    """As TRL's PRMTrainer leaves it: the second label is the good one."""
    source = left(tiny_model_dir, tmp_path / "theirs", AutoModelForTokenClassification, 2)
    adopted = load(adopt(str(source), tmp_path / "ours", Adoption(kind="process", separator="\n\n"), STEPPED))
    theirs = AutoModelForTokenClassification.from_pretrained(source).eval()
    for answer, scored in zip(STEPPED, adopted.steps(STEPPED), strict=True):
        chances = logits(theirs, adopted, answer).softmax(-1)[adopted.encoder(answer).step_ends, 1]
        assert torch.tensor(scored.logits).sigmoid() == pytest.approx(chances, abs=1e-6)
    calibration = adopted.card.calibration
    assert calibration is not None
    assert calibration.rows == 2
    assert calibration.low < calibration.mean < calibration.high


def test_a_language_model_that_judges_by_two_tokens_keeps_its_chances(tiny_model_dir: Path, tmp_path: Path) -> None:
    options = Adoption(kind="process", good="+", bad="-", separator="<|tool|>")
    adopted = load(adopt(str(tiny_model_dir), tmp_path / "ours", options))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    good, bad, mark = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("+", "-", "<|tool|>"))
    assert len(mark) == 1, "a separator may be a special token"
    theirs = AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval()
    for answer, scored in zip(STEPPED, adopted.steps(STEPPED), strict=True):
        row = adopted.encoder(answer)
        assert [row.token_ids[place] for place in row.step_ends] == mark * len(row.step_ends)
        chances = logits(theirs, adopted, answer)[row.step_ends][:, [*bad, *good]].softmax(-1)[:, 1]
        assert torch.tensor(scored.logits).sigmoid() == pytest.approx(chances, abs=1e-6)
    assert adopted.card.calibration is None


@pytest.mark.parametrize(("kind", "labels"), [("outcome", 1), ("verifier", 1), ("verifier", 2)])
def test_a_classifier_of_answers_keeps_its_scores(kind: Any, labels: int, tiny_model_dir: Path, tmp_path: Path) -> None:
    source = left(tiny_model_dir, tmp_path / "theirs", AutoModelForSequenceClassification, labels)
    adopted = load(adopt(str(source), tmp_path / "ours", Adoption(kind=kind)))
    theirs = AutoModelForSequenceClassification.from_pretrained(source).eval()
    for answer, scored in zip(ANSWERS, adopted.sequences(ANSWERS), strict=True):
        said = logits(theirs, adopted, answer)
        assert scored.logits[0] == pytest.approx(float(said[-1] - said[0] if labels == 2 else said[0]), abs=1e-5)


def test_what_cannot_be_adopted_is_said(tiny_model_dir: Path, tmp_path: Path) -> None:
    def refused(said: str, source: Path = tiny_model_dir, **options: Any) -> None:
        with pytest.raises(CheckpointError, match=said):
            adopt(str(source), tmp_path / "never", Adoption(**options))
        assert not (tmp_path / "never").exists()

    refused("no classifier; for a language model", kind="process")
    refused("'right' is 5 tokens", kind="verifier", good="right", bad="-")
    three = left(tiny_model_dir, tmp_path / "three", AutoModelForTokenClassification, 3)
    refused("with 3 labels", three, kind="process")
    two = left(tiny_model_dir, tmp_path / "two", AutoModelForSequenceClassification, 2)
    refused("with 2 labels", two, kind="outcome")
    refused("no such folder here", tmp_path / "nowhere", kind="outcome")
    misfits: list[dict[str, Any]] = [{"kind": "token"}, {"kind": "process", "good": "+"}]
    for options in (*misfits, {"kind": "outcome", "good": "+", "bad": "-"}):
        with pytest.raises(ValueError, match="expected"):
            Adoption(**options)
    with pytest.raises(CheckpointError, match="holds files already"):
        adopt(str(two), three, Adoption(kind="verifier"))


def test_a_calibration_that_fails_leaves_no_folder(tiny_model_dir: Path, tmp_path: Path) -> None:
    source = left(tiny_model_dir, tmp_path / "theirs", AutoModelForTokenClassification, 2)
    with pytest.raises(DataError, match="none of the 2 answers of the calibration has a score"):
        adopt(str(source), tmp_path / "ours", Adoption(kind="process"), ANSWERS)  # which have no steps
    assert not (tmp_path / "ours").exists()


def test_weights_that_the_files_lack_are_not_made_up(tiny_model_dir: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = left(tiny_model_dir, tmp_path / "theirs", AutoModelForTokenClassification, 1)
    weights = load_file(source / "model.safetensors")
    weights.pop("score.weight")
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack score\.weight: these weights would be random"):
        adopt(str(source), tmp_path / "ours", Adoption(kind="process"))


def test_a_head_that_is_more_than_a_layer_is_found_out(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Qwen3ForTokenClassification

    source = left(tiny_model_dir, tmp_path / "theirs", AutoModelForTokenClassification, 1)
    plain = Qwen3ForTokenClassification.forward

    def bent(self: Any, **inputs: Any) -> Any:
        found = plain(self, **inputs)
        found.logits = found.logits.relu() + 1
        return found

    monkeypatch.setattr(Qwen3ForTokenClassification, "forward", bent)
    with pytest.raises(CheckpointError, match="more than the linear layer"):
        adopt(str(source), tmp_path / "ours", Adoption(kind="process"))


def test_the_command_calibrates_and_the_reward_reads_it(tiny_model_dir: Path, tmp_path: Path) -> None:
    source = left(tiny_model_dir, tmp_path / "theirs", AutoModelForSequenceClassification, 1)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "1+2=", "chosen": "3", "rejected": "4"}\n' * 3)
    words = ["adopt-rm", str(source), str(tmp_path / "ours"), "--kind", "outcome", "--data", str(rows)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "reward_model.json: kind outcome" in done.output
    assert "calibrated on 6 answers" in done.output
    build("reward", {"name": "reward_model", "path": str(tmp_path / "ours"), "scale": "standard"})
    with pytest.raises(DataError, match="columns 'preferences'; did you mean 'preference'"):
        CliRunner().invoke(
            app, [*words[:2], str(tmp_path / "x"), *words[3:], "--columns", "preferences"], catch_exceptions=False
        )
