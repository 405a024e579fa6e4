"""On a GPU, at the shape of Qwen2.5-0.5B with random weights: what the train phase does a second, and what logits cost.

Run by hand: `pytest -m gpu tests/gpu -s`; the figures are printed, the bounds only catch what is badly wrong.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from llmrl.aio import wait
from llmrl.ops.logprobs import token_logprobs
from llmrl.samples import Sample
from llmrl.types import Sampling
from tests.builders import sample

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.filterwarnings("default"),
]
VOCABULARY, HIDDEN = 151_936, 896
DENSE_BF16_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # vendors' figures, without sparsity


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Qwen2.5-0.5B's shape, random weights and the byte tokenizer of `llmrl.tiny`."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from llmrl import tiny

    folder = tmp_path_factory.mktemp("qwen")
    tokenizer = tiny.make_tokenizer("text")
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rows(count: int, prompt: int, completion: int) -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    return [
        sample(
            group=str(i // 8),
            episode=i % 8,
            reward=float(i % 2),
            turn_rewards=[],
            token_ids=torch.randint(0, VOCABULARY, (prompt + completion,), generator=generator).tolist(),
            turn_ids=[-1] * prompt + [0] * completion,
            action_mask=[False] * prompt + [True] * completion,
            sampled_logprobs=[0.0] * prompt + [-11.9] * completion,
        )
        for i in range(count)
    ]


def model(folder: Path) -> Any:
    from llmrl.recipe import parse
    from llmrl.train.learners import Learners
    from llmrl.train.parallel import accelerator

    recipe = parse(
        {
            "model": {"policy": str(folder)},
            "data": {"name": "gsm8k"},
            "reward": {"name": "numeric"},
            "algorithm": {"name": "grpo"},
            "train": {"bf16": True, "gradient_checkpointing": True, "report_to": "none", "tokens_per_device": 32768},
        }
    )
    return Learners(recipe, accelerator(recipe.train), ()).policy


def test_train_phase(qwen: Path) -> None:
    from llmrl.algorithms.grpo import GRPO

    trained, algorithm = model(qwen), GRPO()
    samples = algorithm.credit(rows(64, 128, 896))
    parameters = sum(p.numel() for p in trained.net.parameters())
    seconds = []
    for _ in range(4):
        torch.cuda.synchronize()
        began = time.perf_counter()
        fit = trained.fit(samples, algorithm.updates(0)[0], scale=1.0, rate=1e-6)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
        assert fit.applied
    best = min(seconds[1:])
    name = torch.cuda.get_device_name()
    peak = next((flops for kind, flops in DENSE_BF16_FLOPS.items() if kind in name), None)
    mfu = f"{6 * parameters * fit.tokens / best / peak:.1%}" if peak else "unknown for this GPU"
    memory = torch.cuda.max_memory_allocated() / 2**30
    print(f"\n{name}: {fit.tokens / best:,.0f} real tokens/s, MFU {mfu} (6ND), peak {memory:.1f} GiB")
    assert fit.tokens / best > 5_000


def test_chunked_logprobs_need_less_memory() -> None:
    def peak(chunk_mb: float) -> float:
        torch.manual_seed(0)
        head = torch.nn.Linear(HIDDEN, VOCABULARY, bias=False, device="cuda", dtype=torch.bfloat16)
        hidden = torch.randn(8192, HIDDEN, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        targets = torch.randint(0, VOCABULARY, (8192,), device="cuda")
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        token_logprobs(hidden, head, targets, 1.0, chunk_mb)[0].sum().backward()
        return (torch.cuda.max_memory_allocated() - before) / 2**30

    whole, chunked = peak(1e9), peak(256)
    print(f"\n8192 tokens at V={VOCABULARY:,}: whole logits {whole:.2f} GiB, in pieces of 256 MiB {chunked:.2f} GiB")
    assert chunked < whole / 4


def test_hf_engine_agrees_in_bf16(qwen: Path) -> None:
    from llmrl.plugins import build
    from llmrl.train import weight_sync

    trained = model(qwen)
    engine = build("engine", "hf").start(
        str(qwen), dtype="bfloat16", seed=0, max_model_len=512, stop_token_ids=[VOCABULARY - 1]
    )
    gap = weight_sync.send(trained, engine, 1, "bfloat16")["sync/probe_logp_gap"]
    completion = wait(engine.generate(list(range(64)), Sampling(max_tokens=64, seed=1)))
    print(f"\nprobe gap in bfloat16: {gap:.2g} nats")
    assert len(completion.token_ids) == 64
    engine.close()
