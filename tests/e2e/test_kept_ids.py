"""vLLM samples from what llmrl's logits processor left, and says what that was; the trainer finds the same numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from llmrl.errors import EngineError
from llmrl.types import Completion, Sampling

pytestmark = pytest.mark.filterwarnings("default")  # vLLM warns of its own affairs

PROMPTS = [[65, 66, 67], [70, 71, 72, 73, 74, 75], [80]] * 6  # more than may run at a time


@pytest.fixture(scope="module")
def engine(tiny_model_dir: Path) -> Iterator[Any]:
    from llmrl.engines.vllm import Vllm

    options = Vllm(return_kept_ids=True, min_tokens_to_keep=5, max_num_seqs=4)
    running = options.start(str(tiny_model_dir), dtype="float32", seed=0, max_model_len=64, stop_token_ids=[1])
    yield running
    running.close()


def sample(engine: Any, **settings: Any) -> list[Completion]:
    async def ask() -> list[Completion]:
        each = [
            Sampling(**({"seed": i, "max_tokens": 4 + i % 9, "top_p": 0.1} | settings)) for i in range(len(PROMPTS))
        ]
        return list(await asyncio.gather(*(engine.generate(p, s) for p, s in zip(PROMPTS, each, strict=True))))

    return asyncio.run(ask())


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_renormalised_over_the_ids_that_are_returned(
    engine: Any, tiny_model_dir: Path, temperature: float
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    for prompt, c in zip(PROMPTS, sample(engine, temperature=temperature), strict=True):
        assert c.support_ids is not None
        assert c.semantics == "renormalised"
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *c.token_ids]])).logits[0, len(prompt) - 1 : -1]
        whole = (logits.float() / temperature).log_softmax(-1)
        for kept, token, given, row in zip(c.support_ids, c.token_ids, c.logprobs, whole, strict=True):
            ids = list(kept)
            assert token in ids
            assert 1 in ids, "the token that ends"
            assert 5 <= len(ids) < 80
            assert given == pytest.approx(float(row[token] - row[ids].logsumexp(0)), abs=2e-5)
            rest = [i for i in range(len(row)) if i not in ids]
            assert row[[i for i in ids if i != 1]].min() >= row[rest].max() - 1e-5


def test_mixed_batches_and_repetition(engine: Any) -> None:
    first = sample(engine)
    assert [c.token_ids for c in sample(engine)] == [c.token_ids for c in first]
    whole = sample(engine, top_p=1.0)
    assert all(c.support_ids is None and c.semantics == "scaled" for c in whole)
    assert all(c.support_ids is None for c in sample(engine, temperature=0.0))
    from llmrl.engines.vllm import nucleus

    assert not nucleus._taken, "what was read is forgotten"


def test_other_truncations_are_refused(engine: Any) -> None:
    with pytest.raises(EngineError, match="knows top_p alone"):
        sample(engine, top_k=3)
