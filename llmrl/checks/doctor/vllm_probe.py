"""Compare vLLM and Transformers on a tiny model, before and after new weights. Prints one JSON object."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from llmrl import plugins, tiny
from llmrl.types import Completion, Sampling

PROMPTS = [[65 + i, 66, 67 + i, 68][: 2 + i] for i in range(3)]


def main() -> None:
    dtype = "bfloat16" if torch.cuda.is_available() else "float32"
    with tempfile.TemporaryDirectory() as folder:
        tiny.make(folder, hidden=64, layers=2)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        began = time.perf_counter()
        options = plugins.build("engine", {"name": "vllm", "gpu_memory_utilization": 0.1})
        engine = options.start(folder, dtype=dtype, seed=0, max_model_len=128, stop_token_ids=[])
        try:
            result: dict[str, Any] = {"probe": "vllm", "dtype": dtype, "start_s": time.perf_counter() - began}
            gaps = _gaps(model, engine)
            torch.manual_seed(0)
            with torch.no_grad():
                for weight in model.parameters():
                    weight.add_(torch.randn_like(weight) * 0.05)
            engine.load(list(model.named_parameters()), version=1)
            reloaded = _gaps(model, engine)
        finally:
            engine.close()
    result |= {"mean": _mean(gaps), "max": max(gaps), "reloaded_mean": _mean(reloaded)}
    print(json.dumps(result), flush=True)


def _gaps(model: Any, engine: Any) -> list[float]:
    """Absolute differences in nats, one per sampled token."""
    found: list[float] = []
    for prompt, completion in zip(PROMPTS, asyncio.run(_sample(engine)), strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *completion.token_ids]])).logits[0, len(prompt) - 1 : -1]
        expected = logits.float().log_softmax(-1)[range(len(completion.token_ids)), list(completion.token_ids)]
        found += (expected - torch.tensor(list(completion.logprobs))).abs().tolist()
    return found


async def _sample(engine: Any) -> list[Completion]:
    jobs = [engine.generate(p, Sampling(seed=i, max_tokens=32)) for i, p in enumerate(PROMPTS)]
    return list(await asyncio.gather(*jobs))


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


if __name__ == "__main__":
    main()
