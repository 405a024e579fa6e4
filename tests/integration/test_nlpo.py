"""NLPO from the recipe to the last step: what the sampler kept is what the trainer renormalises over."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import RecipeError
from llmrl.recipe import parse
from llmrl.train.loop import train
from llmrl.train.run import Run


def recipe(model: Path, out: Path, **engine: Any) -> Any:
    return parse(
        {
            "model": {"policy": str(model)},
            "data": {"name": "constrained_text", "count": 8, "nouns": 1},
            "reward": {"name": "mix", "parts": {"my_rewards:vowels": 1.0, "naturalness": 0.0}},
            "algorithm": {"name": "nlpo", "num_ppo_epochs": 2, "minibatches": 1, "kl_coef": 0.01},
            "engine": {"name": "hf", **engine},
            "rollout": {
                "num_generations": 2,
                "prompts_per_step": 4,
                "max_completion_length": 8,
                "top_p": 0.8,
                "reward_workers": 1,
            },
            "train": {"max_steps": 3, "learning_rate": 1e-2, "report_to": "none", "output_dir": str(out)},
        }
    )


@pytest.fixture
def rewarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward that random text gets some of."""
    code = "def vowels(completions, **columns):\n    return [float(sum(c in 'aeiou' for c in one[0]['content']))"
    (tmp_path / "my_rewards.py").write_text(code + " for one in completions]\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("rewarded")
def test_a_run_renormalises_over_what_was_kept(tiny_model_dir: Path, tmp_path: Path) -> None:
    options = {"return_kept_ids": True, "min_tokens_to_keep": 10, "mask_update_steps": 2}
    with Run(recipe(tiny_model_dir, tmp_path / "runs", **options), name="nlpo") as run:
        train(run)
    lines = [json.loads(x) for x in (tmp_path / "runs" / "nlpo" / "metrics.jsonl").read_text().splitlines()]
    rows = [json.loads(x) for x in (tmp_path / "runs" / "nlpo" / "rollouts.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert line["nlpo/kept_tokens"] >= 10
        assert 0.0 < line["nlpo/mass_outside"] < 0.9
        # The engine's log-probabilities are the trainer's, though both are renormalised: weights of 1
        assert line["sampling/sampling_logp_difference/mean"] < 1e-4
        texts = [row["turns"][0]["text"] for row in rows if row["step"] == line["step"]]
        assert len(texts) == 8
        words = sum(len(re.findall(r"\w+", text)) for text in texts) / 8
        assert line["rewards/naturalness/words/mean"] == pytest.approx(words)
    assert lines[0]["nlpo/mass_outside"] < 0.25, "at the start the mask policy is the policy"


@pytest.mark.usefixtures("rewarded")
def test_an_engine_that_does_not_say_is_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"engine\.return_kept_ids=true"):
        recipe(tiny_model_dir, tmp_path / "runs")
