"""Fixtures of all tests: tiny models, the folder of the real data sets, and a scripted HTTP server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http_server import HttpServer

# Read when torch, tokenizers or the hub client are first imported, hence before any of them.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as llmrl.cli.waiting does where cores are busy
# Shells ignore these for what runs in the background, and so would all processes that tests start
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a byte tokenizer and a random Qwen3: 2 layers, hidden 64, tied embeddings. Do not write there."""
    from llmrl import tiny

    return tiny.make(tmp_path_factory.mktemp("tiny"), hidden=64, layers=2)


@pytest.fixture(scope="session")
def critic_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A critic as a run leaves it in `final/critic`: V and two Q of the vocabulary, at random. Do not write there."""
    from tests.critics import write_critic

    return write_critic(tmp_path_factory.mktemp("critic"), tiny_model_dir, {"name": "scalar"})


@pytest.fixture(scope="session")
def untied_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an output layer of its own."""
    from llmrl import tiny

    return tiny.make(tmp_path_factory.mktemp("untied"), hidden=64, layers=2, tie=False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, from `LLMRL_DATA` or `../shared/data` beside the repository; skips where absent."""
    folder = Path(os.environ.get("LLMRL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; set LLMRL_DATA to the folder that has them")
    return folder


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """A scripted HTTP server on loopback; a test sets `answer`."""
    server = HttpServer()
    yield server
    server.close()
