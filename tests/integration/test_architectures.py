"""Models of many architectures from load to export: `pytest -s -m slow` prints the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmrl.recipe import ModelOptions
from llmrl.train.network import TokenScorer, load
from tests.architectures import ARCHITECTURES, made, require_agreement
from tests.rows import gaps, random_rows

pytestmark = pytest.mark.filterwarnings("default")
QUICK = ("llama", "gemma2", "qwen3_moe")


@pytest.mark.parametrize("kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in ARCHITECTURES])
def test_a_step_from_load_to_export(kind: str, tmp_path: Path) -> None:
    require_agreement(kind, "hf", tmp_path)


PADDED = {"mistral", "gemma3_text", "falcon", "stablelm", "bloom", "xglm", "mpt", "gemma2"}
"""Windows, caps, biases by distance, and attention that is not asked for by Transformers' interface."""


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_rows_without_padding_are_read_as_padded_ones(kind: str, tmp_path: Path) -> None:
    net: Any = TokenScorer(load(ModelOptions(policy=str(made(kind, tmp_path)))))
    logprobs, gradient = gaps(net, random_rows(net.model.config.vocab_size))
    assert net.by_rows is (kind not in PADDED)
    assert logprobs < 1e-5, "or read as before"
    assert gradient < 1e-5
