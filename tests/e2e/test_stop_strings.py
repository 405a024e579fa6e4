"""Stop strings in vLLM, in process and behind a server: the same tokens as without, up to the string."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmrl.chat import load_tokenizer
from llmrl.plugins import build
from llmrl.protocols import Engine
from llmrl.types import Completion, Sampling

PROMPTS = [[65, 66, 67], [70, 71, 72, 73, 74, 75], [80, 81]]


@pytest.fixture(scope="module", params=["vllm", "server"])
def engine(request: pytest.FixtureRequest, tiny_model_dir: Path) -> Iterator[Engine]:
    started = build("engine", request.param).start(
        str(tiny_model_dir), dtype="float32", seed=0, max_model_len=64, stop_token_ids=[1]
    )
    yield started
    started.close()


def sample(engine: Engine, **settings: object) -> list[Completion]:
    async def ask() -> list[Completion]:
        jobs = [
            engine.generate(prompt, Sampling(seed=seed, max_tokens=24, **settings))  # type: ignore[arg-type]
            for seed, prompt in enumerate(PROMPTS)
        ]
        return await asyncio.gather(*jobs)

    return asyncio.run(ask())


def test_a_completion_ends_with_the_string(engine: Engine, tiny_model_dir: Path) -> None:
    decode = load_tokenizer(str(tiny_model_dir)).decode
    whole = sample(engine)
    letters = [decode([token]) for token in whole[0].token_ids]
    at = next(i for i in range(4, 20) if letters[i].isascii() and letters[i + 1].isascii())
    stop = letters[at] + letters[at + 1]
    cut = sample(engine, stop=(stop,))
    assert cut[0].stopped_by == stop
    for before, after in zip(whole, cut, strict=True):
        ends = [n for n in range(len(before.token_ids) + 1) if stop in decode(list(before.token_ids[:n]))]
        length = ends[0] if ends else len(before.token_ids)
        assert list(after.token_ids) == list(before.token_ids[:length])
        assert list(after.logprobs) == pytest.approx(list(before.logprobs[:length]), abs=1e-4)
        assert (after.finish, after.stopped_by) == (("stop", stop) if ends else (before.finish, None))
    assert sample(engine)[1].token_ids == whole[1].token_ids, "requests that were cut off leave nothing behind"
