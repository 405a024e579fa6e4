"""Models of many architectures from load to export: `pytest -s -m slow` prints the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architectures import ARCHITECTURES, require_agreement

pytestmark = pytest.mark.filterwarnings("default")
QUICK = ("llama", "gemma2", "qwen3_moe")


@pytest.mark.parametrize("kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in ARCHITECTURES])
def test_a_step_from_load_to_export(kind: str, tmp_path: Path) -> None:
    require_agreement(kind, "hf", tmp_path)
