"""Stop strings at any engine: the same tokens as without, up to the string."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llmrl.chat import load_tokenizer
from llmrl.protocols import Engine
from llmrl.types import Completion, Sampling

PROMPTS = [[65, 66, 67], [70, 71, 72, 73, 74, 75], [80, 81]]


def _sample(engine: Engine, **settings: object) -> list[Completion]:
    async def ask() -> list[Completion]:
        jobs = [
            engine.generate(prompt, Sampling(seed=seed, max_tokens=24, **settings))  # type: ignore[arg-type]
            for seed, prompt in enumerate(PROMPTS)
        ]
        return await asyncio.gather(*jobs)

    return asyncio.run(ask())


def require_stop(engine: Engine, model: Path) -> None:
    """A string of two letters ends the completion; its tokens are those that come without it, up to there."""
    decode = load_tokenizer(str(model)).decode
    whole = _sample(engine)
    letters = [decode([token]) for token in whole[0].token_ids]
    at = next(i for i in range(4, 20) if letters[i].isascii() and letters[i + 1].isascii())
    stop = letters[at] + letters[at + 1]
    cut = _sample(engine, stop=(stop,))
    assert cut[0].stopped_by == stop
    for before, after in zip(whole, cut, strict=True):
        ends = [n for n in range(len(before.token_ids) + 1) if stop in decode(list(before.token_ids[:n]))]
        length = ends[0] if ends else len(before.token_ids)
        assert list(after.token_ids) == list(before.token_ids[:length])
        assert list(after.logprobs) == pytest.approx(list(before.logprobs[:length]), abs=1e-4)
        assert (after.finish, after.stopped_by) == (("stop", stop) if ends else (before.finish, None))
    assert _sample(engine)[1].token_ids == whole[1].token_ids, "requests that were cut off leave nothing behind"
