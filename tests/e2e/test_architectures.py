"""The same under the real vLLM: `pytest -s -m slow` prints the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architectures import require_agreement

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]
LOADS = ("llama", "qwen2", "gemma2", "gemma3_text", "cohere", "granite", "phi3", "qwen3_moe", "mixtral")


@pytest.mark.parametrize("kind", LOADS)
def test_a_step_from_load_to_export(kind: str, tmp_path: Path) -> None:
    require_agreement(kind, "vllm", tmp_path)
