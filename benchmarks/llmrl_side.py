"""Engines of grpo_vs_trl.py: completions that never end by themselves, and completions that were stored."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grpo_vs_trl import stored

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
