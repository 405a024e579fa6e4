"""A checkpoint is served in its own dtype."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrl.serve.vllm import own_dtype


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_the_configurations_dtype_is_kept(dtype: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3", key: dtype}))
    assert own_dtype(str(tmp_path)) == dtype


def test_where_none_is_named_a_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    assert own_dtype(str(tmp_path)) == "auto"
    assert "names no dtype: vLLM chooses one; --dtype float32" in capsys.readouterr().out
