"""vLLM samples from the nucleus of a policy that lags behind; a refresh reaches its sampler."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from llmrl.engines.vllm import Vllm
from llmrl.errors import SyncError
from llmrl.ops.nucleus import nucleus
from llmrl.types import Completion, Sampling

pytestmark = pytest.mark.filterwarnings("default")  # vLLM warns of its own affairs

PROMPTS = [[65, 66, 67], [70, 71, 72, 73, 74, 75], [80]] * 6  # more than may run at a time: they come and go
TOP_P, LEAST, STOP = 0.3, 3, 1


@pytest.fixture(scope="module")
def engine(tiny_model_dir: Path) -> Iterator[Any]:
    options = Vllm(return_kept_ids=True, min_tokens_to_keep=LEAST, mask_update_steps=2, max_num_seqs=4)
    running = options.start(str(tiny_model_dir), dtype="float32", seed=0, max_model_len=64, stop_token_ids=[STOP])
    yield running
    running.close()


def shifted(folder: Path, by: float) -> Any:
    """A policy some way off."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight += by * torch.randn(weight.shape, generator=generator)
    return model


def load(engine: Any, model: Any, version: int) -> None:
    engine.load(iter(model.named_parameters()), version)


def sample(engine: Any, **settings: Any) -> list[Completion]:
    async def ask() -> list[Completion]:
        each = [
            Sampling(**({"seed": i, "max_tokens": 4 + i % 9, "top_p": TOP_P} | settings)) for i in range(len(PROMPTS))
        ]
        return list(await asyncio.gather(*(engine.generate(p, s) for p, s in zip(PROMPTS, each, strict=True))))

    return asyncio.run(ask())


def said(model: Any, prompt: Sequence[int], tokens: Sequence[int], temperature: float) -> Tensor:
    """(T, V) logits of each token of a completion, in one forward pass of the whole."""
    with torch.inference_mode():
        logits: Tensor = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
    return logits.float() / temperature


def require_nucleus(completions: Sequence[Completion], mask: Any, policy: Any, temperature: float = 1.0) -> None:
    """Sets are the mask's nucleus up to rounding, tokens lie in them, log-probabilities are the policy's over them."""
    for prompt, one in zip(PROMPTS, completions, strict=True):
        assert one.support_ids is not None
        theirs, ours = (said(model, prompt, one.token_ids, temperature) for model in (mask, policy))
        sure = nucleus(theirs, TOP_P - 1e-4, least=LEAST, always=[STOP])
        possible = nucleus(theirs, TOP_P + 1e-4, least=LEAST, always=[STOP])
        for t, (kept, token, given) in enumerate(zip(one.support_ids, one.token_ids, one.logprobs, strict=True)):
            ids = set(kept)
            assert token in ids
            assert set(sure[t].nonzero()[:, 0].tolist()) <= ids <= set(possible[t].nonzero()[:, 0].tolist())
            wanted = ours[t, token] - ours[t, list(kept)].logsumexp(0)
            assert given == pytest.approx(float(wanted), abs=5e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_tokens_lie_in_the_nucleus_of_the_policy_that_lags(
    engine: Any, tiny_model_dir: Path, temperature: float
) -> None:
    old, new, newer = (shifted(tiny_model_dir, by) for by in (0.0, 0.1, 0.3))
    load(engine, old, version=0)
    require_nucleus(sample(engine, temperature=temperature), old, old, temperature)
    load(engine, new, version=1)
    late = sample(engine, temperature=temperature)
    require_nucleus(late, old, new, temperature)
    with pytest.raises(AssertionError):
        require_nucleus(late, new, new, temperature)
    load(engine, newer, version=2)
    refreshed = sample(engine, temperature=temperature)
    require_nucleus(refreshed, newer, newer, temperature)
    with pytest.raises(AssertionError):
        require_nucleus(refreshed, old, newer, temperature)


def test_equal_weights_keep_what_the_policy_itself_would(engine: Any, tiny_model_dir: Path) -> None:
    load(engine, shifted(tiny_model_dir, 0.1), version=4)
    masked = sample(engine)
    mask, engine._mask = engine._mask, None
    try:
        plain = sample(engine)
    finally:
        engine._mask = mask
    same = [a.token_ids == b.token_ids and a.support_ids == b.support_ids for a, b in zip(masked, plain, strict=True)]
    assert sum(same) >= len(same) - 1, "rounding may move the border of a set, rarely"
    assert [c.token_ids for c in sample(engine)] == [c.token_ids for c in masked]
    assert all(c.support_ids is None for c in sample(engine, top_p=1.0)), "nothing was left out"


def test_a_refresh_without_all_weights_is_refused(tiny_model_dir: Path) -> None:
    from llmrl.engines.vllm.mask_policy import MaskPolicy

    model = shifted(tiny_model_dir, 0.0)
    weights = list(shifted(tiny_model_dir, 0.1).named_parameters())
    with pytest.raises(SyncError, match="1 weights were not given"):
        list(MaskPolicy(model).following(weights[:-1]))
    with pytest.raises(SyncError, match=r"weight nose of \(1,\), expected no such weight"):
        list(MaskPolicy(model).following([("nose", torch.zeros(1))]))
    with pytest.raises(ValueError, match="return_kept_ids: true"):
        Vllm(mask_update_steps=2)
