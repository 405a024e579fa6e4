from __future__ import annotations

import pytest
import torch

from llmrl.ops.losses import clipped, clipped_surrogate

# (ratio, advantage) of six tokens: a gain cut, a gain kept twice, a loss kept, a loss cut, a loss without bound.
RATIOS = [1.5, 0.5, 1.1, 1.5, 0.5, 5.0]
ADVANTAGES = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
OLD = torch.full((6,), -1.0, dtype=torch.float64)


@pytest.mark.parametrize(
    ("high", "delta", "terms", "gradients"),
    [
        (0.2, None, [-1.2, -0.5, -1.1, 1.5, 0.8, 5.0], [0.0, -0.5, -1.1, 1.5, 0.0, 5.0]),
        (0.28, None, [-1.28, -0.5, -1.1, 1.5, 0.8, 5.0], [0.0, -0.5, -1.1, 1.5, 0.0, 5.0]),
        (0.2, 3.0, [-1.2, -0.5, -1.1, 1.5, 0.8, 3.0], [0.0, -0.5, -1.1, 1.5, 0.0, 0.0]),
    ],
)
def test_terms_and_gradients_worked_by_hand(
    high: float, delta: float | None, terms: list[float], gradients: list[float]
) -> None:
    new = (OLD + torch.tensor(RATIOS, dtype=torch.float64).log()).requires_grad_()
    got = clipped_surrogate(new, OLD, ADVANTAGES, 0.2, high, delta)
    assert got.tolist() == pytest.approx(terms, abs=1e-12)
    assert torch.autograd.grad(got.sum(), new)[0].tolist() == pytest.approx(gradients, abs=1e-12)


def test_clipped_names_the_two_sides() -> None:
    new = OLD + torch.tensor(RATIOS, dtype=torch.float64).log()
    fell, rose = clipped(new, OLD, ADVANTAGES, 0.2, 0.2)
    assert fell.tolist() == [0, 0, 0, 0, 1, 0]
    assert rose.tolist() == [1, 0, 0, 0, 0, 0]
    assert (fell + rose).mean().item() == pytest.approx(1 / 3)


def test_a_probability_ratio_out_of_range_stays_finite() -> None:
    terms = clipped_surrogate(torch.tensor([900.0, -900.0]), torch.zeros(2), torch.tensor([-1.0, 1.0]), 0.2, 0.2)
    assert terms.isfinite().all()
