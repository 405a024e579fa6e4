"""The engine `hf` with a critic: tokens are of the logits plus a multiple of its numbers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM

from llmrl.engines.hf import Hf
from llmrl.errors import EngineError, RecipeError
from llmrl.recipe import parse
from llmrl.types import Completion, Sampling

PROMPTS = [[65, 66, 67], [70, 71, 72, 73, 74, 75], [80]]
BETA, TOP_K = 3.0, 7


def sample(folder: Path, *, temperature: float = 1.0, **options: Any) -> list[Completion]:
    engine = Hf(**options).start(str(folder), dtype="float32", seed=5, max_model_len=64, stop_token_ids=())

    async def ask() -> list[Completion]:
        settings = [Sampling(seed=i, max_tokens=9, temperature=temperature) for i in range(len(PROMPTS))]
        return await asyncio.gather(*(engine.generate(p, s) for p, s in zip(PROMPTS, settings, strict=True)))

    try:
        return asyncio.run(ask())
    finally:
        engine.close()


def expected(folder: Path, critic: Path, text: list[int], top_k: int) -> Tensor:
    """(T, V) moved logits behind each token of a text, from the files and plain tensors."""
    heads, trunk = load_file(critic / "heads.safetensors"), AutoModel.from_pretrained(critic)
    ids = torch.tensor([text])
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(ids).logits[0]
        states = trunk(ids).last_hidden_state[0]
    numbers = []
    for name in ("q1", "q2"):
        first, bias, last = (heads[f"{name}.body.{part}"] for part in ("0.weight", "0.bias", "2.weight"))
        numbers.append((states @ first.T + bias).relu() @ last.T)
    moved: Tensor = logits + BETA * torch.minimum(*numbers)
    if not top_k:
        return moved
    least = logits.sort(-1).values[:, -top_k][:, None]
    return torch.where(logits >= least, moved, -torch.inf)


@pytest.mark.parametrize("top_k", [0, TOP_K])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_tokens_are_of_the_moved_distribution(
    top_k: int, temperature: float, tiny_model_dir: Path, critic_dir: Path
) -> None:
    """Behind any padding, and at every token: the cache of the critic grows with the sequence."""
    options = {"critic": str(critic_dir), "critic_beta": BETA, "critic_top_k": top_k}
    for prompt, found in zip(PROMPTS, sample(tiny_model_dir, temperature=temperature, **options), strict=True):
        tokens = list(found.token_ids)
        logits = expected(tiny_model_dir, critic_dir, [*prompt, *tokens], top_k)[len(prompt) - 1 : -1]
        wanted = (logits / temperature).log_softmax(-1)[range(len(tokens)), tokens]
        assert list(found.logprobs) == pytest.approx(wanted.tolist(), abs=2e-5)


def test_the_best_token_is_the_best_of_the_sum(tiny_model_dir: Path, critic_dir: Path) -> None:
    options = {"critic": str(critic_dir), "critic_beta": BETA, "critic_top_k": TOP_K}
    moved = sample(tiny_model_dir, temperature=0.0, **options)
    for prompt, found in zip(PROMPTS, moved, strict=True):
        logits = expected(tiny_model_dir, critic_dir, [*prompt, *found.token_ids], TOP_K)[len(prompt) - 1 : -1]
        assert list(found.token_ids) == logits.argmax(-1).tolist()
    assert [c.token_ids for c in moved] != [c.token_ids for c in sample(tiny_model_dir, temperature=0.0)]
    still = sample(tiny_model_dir, critic=str(critic_dir), critic_beta=0.0, critic_top_k=0)
    assert [c.token_ids for c in still] == [c.token_ids for c in sample(tiny_model_dir)]


def test_a_folder_without_a_critic_is_refused(tiny_model_dir: Path) -> None:
    with pytest.raises(EngineError, match=r"engine\.critic: .* has no heads of the vocabulary; expected final/critic"):
        sample(tiny_model_dir, critic=str(tiny_model_dir))


def test_answers_that_train_are_not_moved(tiny_model_dir: Path, critic_dir: Path) -> None:
    tree = {
        "model": {"policy": str(tiny_model_dir)},
        "data": {"name": "arithmetic"},
        "reward": {"name": "numeric"},
        "algorithm": {"name": "grpo"},
        "engine": {"name": "hf", "critic": str(critic_dir)},
    }
    with pytest.raises(RecipeError, match=r"engine\.critic with source online: .* another distribution"):
        parse(tree)
    offline = {"name": "offline", "path": "rows.jsonl"}
    assert parse(tree | {"source": offline, "algorithm": {"name": "ilql"}}).engine
