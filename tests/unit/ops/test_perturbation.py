"""Logits that a critic moves."""

from __future__ import annotations

import torch

from llmrl.ops.perturbation import perturbed

LOGITS, ADVANTAGES = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[1.0, -1.0, 0.5]])


def test_each_logit_moves_by_beta_times_its_advantage() -> None:
    assert perturbed(LOGITS, ADVANTAGES, 2.0).tolist() == [[2.0, -1.0, 3.0]]


def test_what_the_policy_finds_unlikely_stays_out() -> None:
    """The first token has the best advantage, and is not among the two likeliest."""
    assert perturbed(LOGITS, ADVANTAGES, 2.0, top_k=2).tolist() == [[-torch.inf, -1.0, 3.0]]
    assert perturbed(LOGITS, ADVANTAGES, 2.0, top_k=7).tolist() == [[2.0, -1.0, 3.0]]


def test_a_value_of_the_state_changes_nothing() -> None:
    without, with_value = (perturbed(LOGITS, ADVANTAGES - v, 4.0).softmax(-1) for v in (0.0, 3.0))
    assert torch.allclose(without, with_value)
