"""Requests of many kinds at once, at any engine: each is answered as it would be alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from llmrl.protocols import Engine
from llmrl.types import Completion, Sampling

SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0.0, "max_tokens": 3},
    {"temperature": 0.0, "max_tokens": 9},
    {"temperature": 0.7, "max_tokens": 5, "seed": 1},
    {"temperature": 0.7, "max_tokens": 5, "seed": 2},
    {"top_k": 2, "max_tokens": 7, "seed": 1},
    {"top_p": 0.3, "max_tokens": 7, "seed": 1},
    {"min_p": 0.9, "max_tokens": 2, "seed": 3},
    {"max_tokens": 1, "seed": 4},
]


def require_own_settings(engine: Engine) -> None:
    """Prompts of several lengths, some of them the same, each with settings of its own, in an order of chance."""
    draw = Random(5)
    prompts = [[draw.randrange(20, 250) for _ in range(length)] for length in (3, 11, 3, 7)] + [[65, 66, 67]] * 2
    asked = [(prompt, Sampling(**settings)) for prompt in prompts for settings in SETTINGS]
    draw.shuffle(asked)

    async def answers(some: Sequence[tuple[list[int], Sampling]]) -> list[Completion]:
        return await asyncio.gather(*(engine.generate(prompt, sampling) for prompt, sampling in some))

    together = asyncio.run(answers(asked))
    for request, completion in zip(asked, together, strict=True):
        (alone,) = asyncio.run(answers([request]))
        assert list(completion.token_ids) == list(alone.token_ids), request
        assert list(completion.logprobs) == pytest.approx(list(alone.logprobs), abs=1e-4), request
        assert (len(completion.token_ids), completion.finish) == (request[1].max_tokens, "length"), request
    assert len({tuple(completion.token_ids) for completion in together}) > len(asked) / 2, "they differ"
