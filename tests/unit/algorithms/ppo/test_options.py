from __future__ import annotations

import pickle
from typing import Any

import pytest

from llmrl.algorithms.ppo import PPO
from llmrl.errors import RecipeError
from llmrl.plugins import build
from llmrl.protocols import Adaptive, Algorithm, Measured
from tests.unit.algorithms.ppo.rows import BARE


def test_it_is_an_algorithm() -> None:
    algorithm = build("algorithm", {"name": "ppo", "discounts": {"kl": 1}, "lam": 1})
    assert isinstance(algorithm, Algorithm)
    assert isinstance(algorithm, Adaptive)
    assert isinstance(algorithm, Measured)
    assert pickle.loads(pickle.dumps(algorithm)) == algorithm
    assert hash(pickle.loads(pickle.dumps(algorithm))) == hash(algorithm)


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, {"values", "ref_logprobs", "old_logprobs"}),
        ({"kl_coef": 0.0}, {"values", "old_logprobs"}),
        ({"kl_coef": 0.0, "minibatches": 1}, {"values"}),
        ({"kl_coef": 0.0, "minibatches": 1, "num_ppo_epochs": 2}, {"values", "old_logprobs"}),
        ({"kl_in_reward": False, "kl_estimator": "k3", "minibatches": 1}, {"values", "ref_logprobs"}),
        (
            {"kl_in_reward": False, "kl_estimator": "k2", "minibatches": 1, "kl_target": 6.0},
            {"values", "ref_logprobs", "old_logprobs"},
        ),
        ({**BARE, "bootstrap_truncated": True}, {"values", "last_values"}),
    ],
)
def test_needs(options: dict[str, Any], needs: set[str]) -> None:
    assert PPO(**options).needs() == needs


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kl_estimator": "k3"}, "k3 in the reward"),
        ({"kl_in_reward": False}, "k1 in the loss"),
        ({"delta": 1.1}, "delta 1.1"),
        ({"lam": 1.5}, "lam 1.5"),
        ({"minibatches": 0}, "minibatches 0"),
        ({"importance_sampling_cap": 0.5}, "importance_sampling_cap"),
        ({"cliprange_value": 0.0}, "cliprange_value 0.0"),
        ({"kl_target": 6.0, "kl_coef": 0.0}, "kl_target"),
        ({"warmup_explained_variance": 0.3}, "critic_warmup above 0"),
        ({"discounts": {"reward": 0.9}}, "expected lam: 1"),
        ({"discounts": {"reward": 0.9}, "lam": 1, "length_adaptive_lambda": 0.05}, "expected lam: 1"),
        ({"discounts": {"reward": 0.9}, "lam": 1, "bootstrap_truncated": True}, "bootstrap_truncated"),
        ({"discounts": {"format": 0.9}, "lam": 1}, "unknown channel format"),
        ({"discounts": {"reward": 1.9}, "lam": 1}, "discounts.reward 1.9"),
        ({"cliprange": 0.2}, "unknown key"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build("algorithm", {"name": "ppo", **options})
