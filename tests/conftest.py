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
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as llmrl.cli.main sets it
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
    import torch
    from transformers import AutoModel

    from llmrl.critics.folder import write_heads
    from llmrl.critics.layers import head_of, layer

    folder = tmp_path_factory.mktemp("critic")
    trunk = AutoModel.from_pretrained(tiny_model_dir)
    specs = {"v": {"name": "scalar"}} | {name: {"name": "vocabulary", "width": 1} for name in ("q1", "q2")}
    torch.manual_seed(3)
    layers = {name: layer(head_of(spec), trunk, zero_init=False) for name, spec in specs.items()}
    trunk.save_pretrained(folder)
    write_heads(folder, specs, torch.nn.ModuleDict(layers).state_dict())
    return folder


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
