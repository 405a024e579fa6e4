"""Engines of grpo_vs_trl.py: completions that never end, stored completions, and vLLM without llmrl."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llmrl.engines.vllm import Colocated, Vllm
from llmrl.types import Completion, Sampling


@dataclass(frozen=True)
class Endless(Vllm):
    """vLLM that samples each completion to its limit."""

    def start(self, model: str, *, stop_token_ids: Sequence[int], **options: Any) -> Colocated:
        return super().start(model, stop_token_ids=[], **options)


@dataclass(frozen=True)
class Stored(Vllm):
    """vLLM that takes weights and proves them, and answers by stored completions."""

    def start(self, model: str, **options: Any) -> Colocated:
        engine = super().start(model, **options)
        asked = 0

        from grpo_vs_trl import stored

        async def generate(prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
            nonlocal asked
            ids = stored(asked)
            asked += 1
            return Completion(
                token_ids=array("i", ids),
                logprobs=array("f", [-5.56] * len(ids)),  # of one in 260: weights at random prefer nothing
                finish="stop",
                version=engine.version,
                semantics=sampling.semantics,
            )

        engine.generate = generate  # type: ignore[method-assign]
        return engine


def run_vllm(
    model: str,
    steps: int,
    table: str,
    bf16: bool,
    *,
    problems: Callable[[int], list[str]],
    generations: int,
    longest: int,
) -> list[dict[str, float]]:
    """Steps of vLLM alone: the engine that llmrl starts, asked for the same completions by `LLM.generate`."""
    from llmrl.cli import waiting

    waiting.choose()
    from vllm import SamplingParams

    from llmrl.chat import Chat, load_tokenizer

    chat = Chat(load_tokenizer(model))
    end = [chat.tokenizer.eos_token_id] if table == "natural" else []
    asked = [chat.prompt_ids([{"role": "user", "content": text}]) for text in problems(steps)]
    engine = Vllm().start(
        model, dtype="bfloat16" if bf16 else "float32", seed=0, max_model_len=128 + longest, stop_token_ids=end
    )
    taken: list[dict[str, float]] = []
    for step in range(steps):
        prompts = asked[step * len(asked) // steps : (step + 1) * len(asked) // steps]
        params = [
            SamplingParams(
                max_tokens=longest,
                seed=generations * step + i,
                logprobs=0,
                flat_logprobs=True,
                stop_token_ids=end,
                ignore_eos=True,
                detokenize=False,
            )
            for i in range(generations * len(prompts))
        ]
        requests: list[Any] = [{"prompt_token_ids": ids} for ids in prompts for _ in range(generations)]
        began, work = time.perf_counter(), time.process_time()
        outputs = engine._llm.generate(requests, params, use_tqdm=False)
        seconds = time.perf_counter() - began
        made = sum(len(output.outputs[0].token_ids) for output in outputs)
        read = sum(len(request["prompt_token_ids"]) for request in requests)
        spent = {"seconds": seconds, "generate": seconds, "train": 0.0, "rest": 0.0}
        cpu_seconds = time.process_time() - work
        taken.append(spent | {"cpu_seconds": cpu_seconds, "tokens": made + read, "length": made / len(outputs)})
        engine._llm.reset_prefix_cache()  # as every weight sync does
    engine.close()
    return taken
