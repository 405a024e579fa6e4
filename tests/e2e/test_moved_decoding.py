"""vLLM with a critic: tokens and log-probabilities are those of the engine `hf`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from llmrl.critics import action_values
from llmrl.engines.server import Server
from llmrl.engines.vllm import Vllm
from llmrl.ops.perturbation import perturbed
from llmrl.types import Completion, Sampling

pytestmark = pytest.mark.filterwarnings("default")  # vLLM warns of its own affairs

PROMPTS = [[65, 66, 67], [70, 71, 72, 73, 74, 75], [80]] * 4  # more than may run at a time: they come and go
BETA, TOP_K = 3.0, 7


def sample(engine: Any, temperature: float) -> list[Completion]:
    async def ask() -> list[Completion]:
        each = [Sampling(seed=i, max_tokens=4 + i % 7, temperature=temperature) for i in range(len(PROMPTS))]
        return list(await asyncio.gather(*(engine.generate(p, s) for p, s in zip(PROMPTS, each, strict=True))))

    return asyncio.run(ask())


ENGINES: dict[str, tuple[Any, dict[str, Any]]] = {
    "vllm": (Vllm, {"max_num_seqs": 4}),
    "server": (Server, {"server_args": ["--max-num-seqs", "4"], "omp_threads": 1}),
}


@pytest.mark.parametrize("name", ["vllm", pytest.param("server", marks=pytest.mark.slow)])
def test_vllm_draws_from_the_moved_distribution(name: str, tiny_model_dir: Path, critic_dir: Path) -> None:
    kind, more = ENGINES[name]
    options = kind(critic=str(critic_dir), critic_beta=BETA, critic_top_k=TOP_K, **more)
    engine = options.start(str(tiny_model_dir), dtype="float32", seed=0, max_model_len=64, stop_token_ids=[1])
    policy = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    critic = action_values.load(str(critic_dir), "float32", "cpu")

    def moved(text: Sequence[int]) -> torch.Tensor:
        ids = torch.tensor([list(text)])
        with torch.no_grad():
            return perturbed(policy(ids).logits[0], critic(input_ids=ids).logits[0], BETA, TOP_K)

    try:
        for temperature in (1.0, 0.7, 0.0):
            for prompt, found in zip(PROMPTS, sample(engine, temperature), strict=True):
                tokens = list(found.token_ids)
                logits = moved([*prompt, *tokens])[len(prompt) - 1 : -1]
                if temperature == 0.0:
                    assert tokens == logits.argmax(-1).tolist()
                else:
                    wanted = (logits / temperature).log_softmax(-1)[range(len(tokens)), tokens]
                    assert list(found.logprobs) == pytest.approx(wanted.tolist(), abs=1e-4)
        plain = policy(torch.tensor([PROMPTS[0]])).logits[0, :-1].log_softmax(-1)
        assert asyncio.run(engine.score(PROMPTS[0])) == pytest.approx(
            plain[range(2), PROMPTS[0][1:]].tolist(), abs=1e-4
        ), "scores, which prove the sync of weights, are the policy's own"
    finally:
        engine.close()
