"""The doctor's two probes: the real vLLM and two processes of the real DeepSpeed."""

from __future__ import annotations

import pytest

from llmrl.checks.doctor import probes


@pytest.mark.slow
def test_vllm_and_deepspeed_really_start() -> None:
    vllm, deepspeed = probes.findings(240)
    assert vllm.state == "ok", vllm
    assert "mean gap" in vllm.detail
    assert deepspeed.state == "ok", deepspeed
    assert deepspeed.detail.startswith("2 processes")
