from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from llmrl.errors import CheckpointError, DataError
from llmrl.train.sft import sft

ROWS = [
    {
        "prompt": [{"role": "user", "content": f"{a}+1="}],
        "completion": [{"role": "assistant", "content": str(a + 1)}],
        "other": a,
    }
    for a in range(8)
]


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    tensors: dict[str, Any] = load_file(folder / "model.safetensors")
    return tensors


def test_learns_the_completions_and_stops_when_told(tiny_model_dir: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    losses: list[float] = []

    def progress(step: int, loss: float, model: Any) -> bool:
        assert step == len(losses) + 1
        losses.append(loss)
        return loss < 0.05

    out = sft(tiny_model_dir, ROWS, tmp_path, max_steps=300, learning_rate=1e-2, batch_size=8, progress=progress)
    assert losses[-1] < 0.05 < min(losses[:-1])
    assert len(losses) < 300
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "6+1="}], add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    said = model.generate(prompt, max_new_tokens=4, do_sample=False)[0, prompt.shape[1] :]
    assert said.tolist() == [*tokenizer.encode("7"), tokenizer.eos_token_id]


def test_prompts_are_not_learnt(tiny_model_dir: Path, tmp_path: Path) -> None:
    """The first loss is that of the completion and its end alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = (kind.from_pretrained(tiny_model_dir) for kind in (AutoTokenizer, AutoModelForCausalLM))
    row = {"prompt": "3+5", "completion": "=8"}
    ids = torch.tensor([[*tokenizer.encode("3+5=8"), tokenizer.eos_token_id]])
    with torch.no_grad():
        logprobs = model(ids).logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])[:, 0]
    seen: list[float] = []

    def progress(step: int, loss: float, model: Any) -> bool:
        seen.append(loss)
        return True

    sft(tiny_model_dir, [row], tmp_path, max_steps=2, batch_size=1, progress=progress)
    assert seen == [pytest.approx(-logprobs[2:].mean().item(), abs=1e-4)]


def test_the_seed_decides_the_result(tiny_model_dir: Path, tmp_path: Path) -> None:
    state = [
        weights(sft(tiny_model_dir, ROWS, tmp_path / str(i), max_steps=3, batch_size=2, seed=seed))
        for i, seed in enumerate((0, 0, 1))
    ]
    name = "model.embed_tokens.weight"
    assert all(torch.equal(state[0][key], state[1][key]) for key in state[0])
    assert not torch.equal(state[0][name], state[2][name])


@pytest.mark.parametrize(
    ("rows", "message"),
    [([], "found none"), ([{"prompt": "1+1=", "answer": "2"}], "row 0: `completion` is missing.*found prompt, answer")],
)
def test_rows_that_cannot_be_learnt(
    rows: list[dict[str, str]], message: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        sft(tiny_model_dir, rows, tmp_path, max_steps=1)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a model that can be fine-tuned"):
        sft(tmp_path, ROWS, tmp_path / "out", max_steps=1)
