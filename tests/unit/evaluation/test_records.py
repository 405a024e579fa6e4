"""The settings beside an evaluation's answers: they are never written over somebody else's file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrl.errors import LlmrlError
from llmrl.evaluation.records import claim

SETTINGS = {"player": {"model": "m"}, "seed": 0}


def test_a_models_config_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"architectures": ["Qwen3ForCausalLM"], "hidden_size": 64, "rope": {"theta": 1.0}}')
    before = path.read_bytes()
    with pytest.raises(LlmrlError, match=r"config.json: holds architectures, hidden_size, rope, which no evaluation"):
        claim(tmp_path, "gsm8k", SETTINGS, begun=False)
    assert path.read_bytes() == before


def test_benchmarks_share_a_file(tmp_path: Path) -> None:
    claim(tmp_path, "gsm8k", SETTINGS, begun=False)
    claim(tmp_path, "math", SETTINGS, begun=False)
    assert json.loads((tmp_path / "config.json").read_text()) == {"gsm8k": SETTINGS, "math": SETTINGS}
