from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from llmrl.errors import RecipeError
from llmrl.ops.mismatch import diagnostics, require_scaled, token_mask, token_truncate
from llmrl.types import Sample

SAMPLED = torch.tensor([[0.5, 0.1, 0.9, 0.02]], dtype=torch.float64).log()
OLD = torch.tensor([[0.48, 0.3, 0.9, 0.05]], dtype=torch.float64).log()  # ratios .96, 3, 1, 2.5
ALL = torch.ones(1, 4, dtype=torch.bool)


def test_weights_worked_by_hand() -> None:
    assert token_truncate(OLD, SAMPLED, 2.0)[0].tolist() == pytest.approx([0.96, 2.0, 1.0, 2.0], abs=1e-12)
    assert token_mask(OLD, SAMPLED, 0.5, 2.0)[0].tolist() == pytest.approx([0.96, 0.0, 1.0, 0.0], abs=1e-12)


def test_agreement_weighs_exactly_one_and_nothing_carries_a_gradient() -> None:
    old = OLD.clone().requires_grad_()
    weight = token_truncate(old, OLD, 2.0)
    assert weight.tolist() == [[1.0] * 4]
    assert not weight.requires_grad
    assert not token_mask(old, OLD, 0.5, 2.0).requires_grad


def test_diagnostics_worked_by_hand() -> None:
    numbers = diagnostics(OLD, SAMPLED, ALL, cap=2.0)
    assert numbers == pytest.approx(
        {
            "abs/mean": (0.0408219945202552 + 1.0986122886681098 + 0 + 0.9162907318741551) / 4,
            "abs/max": 1.0986122886681098,
            "k1": -0.49352025650550235,
            "k3": 0.3714797434944974,
            "chi2": 3.2929,
            "perplexity_ratio": 0.6104735835807844,
            "above_cap": 0.5,
            "ess": 0.8950572488308337,
        },
        abs=1e-9,
    )


def test_diagnostics_read_action_tokens_only() -> None:
    mask = torch.tensor([[True, False, True, False]])
    assert diagnostics(OLD, SAMPLED, mask)["abs/max"] == pytest.approx(0.0408219945202552)
    assert diagnostics(OLD, SAMPLED, torch.zeros_like(mask)) == {}


def test_log_probabilities_of_another_distribution_are_refused() -> None:
    row = Sample(
        group="g",
        episode=3,
        reward=0.0,
        turn_rewards=[0.0],
        token_ids=[0],
        turn_ids=[0],
        action_mask=[True],
        sampled_logprobs=[0.0],
    )
    require_scaled([row])
    with pytest.raises(RecipeError, match=r"group g, episode 3.*'renormalised'.*top_p=1"):
        require_scaled([row, replace(row, semantics="renormalised")])
