"""New weights and prompts of several cache blocks: no completion begins from keys and values of older weights.

vLLM keeps whole blocks of a prompt. Shorter prompts, such as those of most other tests, are never kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
import torch
from transformers import AutoModelForCausalLM

from llmrl.aio import wait
from llmrl.engines.server import Server
from llmrl.engines.vllm import Vllm
from llmrl.recipe import parse
from llmrl.train import weight_sync
from llmrl.train.learners import Learners
from llmrl.train.parallel import accelerator
from llmrl.types import Completion, Sampling

pytestmark = pytest.mark.filterwarnings("default")  # vLLM warns of its own affairs

BLOCK = 32
ROOM = 256
_TEXT = [Random(7).randrange(10, 250) for _ in range(5 * BLOCK)]
PROMPTS = [_TEXT[: 2 * BLOCK + 1], _TEXT[: 3 * BLOCK + 9], _TEXT, [*_TEXT[:BLOCK], *_TEXT[: 2 * BLOCK]]]
"""Prompts of two to five blocks; all begin with the same one."""


def moved(folder: Path, seed: int) -> torch.nn.Module:
    """The folder's model a few steps away, in a direction of its own."""
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(folder)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=draw) * 0.05)
    return model


def greedy(engine: Any) -> list[Completion]:
    """Greedy completions of all prompts, asked at the same time."""

    async def ask() -> list[Completion]:
        sampling = Sampling(temperature=0.0, max_tokens=4)
        completions: list[Completion] = await asyncio.gather(*(engine.generate(p, sampling) for p in PROMPTS))
        return completions

    return asyncio.run(ask())


def forward(model: torch.nn.Module, ids: Sequence[int]) -> torch.Tensor:
    """(T - 1, V) log-probabilities behind every token but the last, by a pass that keeps nothing."""
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([list(ids)]), use_cache=False).logits[0, :-1]
    return logits.float().log_softmax(-1)


def require_those_of(model: torch.nn.Module, engine: Any) -> None:
    """The engine's greedy tokens are the model's likeliest, with the model's log-probabilities."""
    for prompt, completion in zip(PROMPTS, greedy(engine), strict=True):
        table = forward(model, [*prompt, *completion.token_ids])[len(prompt) - 1 :]
        expected = table.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(table.max(-1).values, expected, rtol=0, atol=2e-5)
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, rtol=0, atol=2e-5)


def kept_of(engine: Any, prompt: Sequence[int]) -> int:
    """Tokens of the prompt that the engine in process takes from its cache."""
    from vllm import SamplingParams

    return int(wait(engine._ask(prompt, SamplingParams(max_tokens=1, detokenize=False))).num_cached_tokens)


@pytest.fixture(scope="module")
def engine(tiny_model_dir: Path) -> Iterator[Any]:
    made = Vllm(block_size=BLOCK)
    running = made.start(str(tiny_model_dir), dtype="float32", seed=0, max_model_len=ROOM, stop_token_ids=[])
    yield running
    running.close()


def test_an_engine_in_process_forgets_what_old_weights_computed(engine: Any, tiny_model_dir: Path) -> None:
    for version in (1, 2):
        greedy(engine)  # keeps the prompts' blocks
        assert [kept_of(engine, prompt) // BLOCK for prompt in PROMPTS] == [2, 3, 4, 2], "nothing to forget"
        model = moved(tiny_model_dir, version)
        engine.sleep()  # as a step does, where the platform has it
        engine.wake()
        engine.load(list(model.named_parameters()), version)
        require_those_of(model, engine)
        require_those_of(model, engine)  # from blocks of the new weights


def test_layers_are_watched_over_the_whole_prompt(engine: Any) -> None:
    greedy(engine)
    assert [len(layer) for layer in engine.layer_norms(PROMPTS[2])] == [len(PROMPTS[2])] * 2


@pytest.mark.parametrize("adapter", [{}, {"use_peft": True, "lora_r": 4}], ids=["full", "lora"])
def test_a_policy_that_is_sent_is_the_one_that_speaks(
    engine: Any, tiny_model_dir: Path, adapter: dict[str, Any]
) -> None:
    made = parse(
        {
            "model": {"policy": str(tiny_model_dir)} | adapter,
            "data": {"name": "arithmetic"},
            "reward": {"name": "numeric"},
            "algorithm": {"name": "grpo"},
            "train": {"report_to": "none"},
        }
    )
    policy = Learners(made, accelerator(made.train), ()).policy
    sync = weight_sync.WeightSync(policy, engine, "float32")
    draw = torch.Generator().manual_seed(1)
    for version in (1, 2):
        greedy(engine)
        sync.sleep()
        with torch.no_grad():
            for name, weight in policy.net.model.named_parameters():
                if weight.requires_grad and "lora_A" not in name:
                    weight.add_(torch.randn(weight.shape, generator=draw) * 0.05)
        sync(version)
        require_those_of(policy.net.model, engine)


@pytest.fixture(scope="module")
def server(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    logs = str(tmp_path_factory.mktemp("logs"))
    made = Server(omp_threads=1, log_dir=logs, server_args=["--block-size", str(BLOCK)])
    running = made.start(str(tiny_model_dir), dtype="float32", seed=0, max_model_len=ROOM, stop_token_ids=[])
    yield running
    running.close()


def hits(server: Any) -> float:
    """Tokens that the server has taken from its cache so far."""
    headers = {"Authorization": f"Bearer {server._options.api_key}"}
    page = httpx.get(f"{server._fleet._peers[0].url}/metrics", headers=headers, trust_env=False).text
    counts = [line.split()[-1] for line in page.splitlines() if line.startswith("vllm:prefix_cache_hits_total")]
    return sum(map(float, counts))


@pytest.mark.parametrize("in_flight", [False, True], ids=["between", "in flight"])
def test_a_server_forgets_what_old_weights_computed(server: Any, tiny_model_dir: Path, in_flight: bool) -> None:
    url, key = server._fleet._peers[0].url, server._options.api_key
    client = Server(urls=[url], api_key=key, in_flight_updates=in_flight).start(
        "ignored", dtype="float32", seed=0, max_model_len=ROOM, stop_token_ids=[]
    )
    try:
        for version in (1, 2):
            before = hits(server)
            greedy(client)
            greedy(client)
            assert hits(server) > before, "nothing to forget"
            model = moved(tiny_model_dir, 10 * in_flight + version)
            client.load(list(model.named_parameters()), version)
            require_those_of(model, client)
            require_those_of(model, client)
    finally:
        client.close()
