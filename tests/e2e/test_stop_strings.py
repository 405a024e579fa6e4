"""Stop strings in vLLM, in process; test_server_engine asks the same of its servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmrl.plugins import build
from llmrl.protocols import Engine
from tests.stop_strings import require_stop


@pytest.fixture(scope="module")
def engine(tiny_model_dir: Path) -> Iterator[Engine]:
    started = build("engine", "vllm").start(
        str(tiny_model_dir), dtype="float32", seed=0, max_model_len=64, stop_token_ids=[1]
    )
    yield started
    started.close()


def test_a_completion_ends_with_the_string(engine: Engine, tiny_model_dir: Path) -> None:
    require_stop(engine, tiny_model_dir)
