"""The real vLLM sees what the trainer sees."""

from __future__ import annotations

from pathlib import Path

import pytest

import llmrl
from llmrl.vision import tiny
from tests.integration.test_pictures import MOST_GAP, by_length, gaps, recipe
from tests.seeing import pictured_rows

pytestmark = pytest.mark.filterwarnings("default")  # vLLM warns of its own affairs


def test_sampled_and_trained_logprobs_agree_over_weight_syncs(tmp_path: Path) -> None:
    """Three steps on pictures, two in a prompt, and none: its cache of pictures is emptied with each sync."""
    made = recipe(tiny.make(tmp_path / "model"), tmp_path, engine={"name": "vllm"})
    run = llmrl.train(made, reward=by_length, data=pictured_rows(tmp_path))
    assert len(gaps(run)) == 3
    assert max(gaps(run)) < MOST_GAP


def test_a_second_run_in_the_process_makes_its_models(tmp_path: Path) -> None:
    """vLLM runs this model by Transformers' classes, and changes them: those of later runs are their own again."""
    for name in ("first", "second"):
        made = recipe(tiny.make(tmp_path / name / "model"), tmp_path / name, engine={"name": "vllm"})
        made["train"]["max_steps"] = 1
        run = llmrl.train(made, reward=by_length, data=pictured_rows(tmp_path))
        assert max(gaps(run)) < MOST_GAP
