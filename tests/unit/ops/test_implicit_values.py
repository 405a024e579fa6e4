"""Losses of V: numbers worked by hand, and where their minima lie."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log

import pytest
import torch
from torch import Tensor

from llmrl.ops.implicit_values import chi_square, chi_square_conjugate, expectile, gumbel, total_variation

Q = torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=torch.float64)


def gaps(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def least(loss: Callable[[Tensor], Tensor]) -> float:
    """The V of least loss, on a grid of a thousandth."""
    grid = torch.arange(-0.5, 1.5, 0.001, dtype=torch.float64)
    return float(grid[torch.stack([loss(Q - v).mean() for v in grid]).argmin()])


def test_an_expectile_weighs_what_lies_above() -> None:
    """0.7 * 0.5^2 = 0.175 above, 0.3 * 0.2^2 = 0.012 below; to all digits of float64."""
    assert expectile(gaps(0.5, -0.2), 0.7).tolist() == pytest.approx([0.175, 0.012], abs=1e-15)


def test_half_an_expectile_is_the_mean() -> None:
    assert least(lambda y: expectile(y, 0.5)) == pytest.approx(0.425, abs=1e-3)


def test_the_gumbel_loss_has_the_soft_maximum() -> None:
    """0.5 * log of the mean of e^0, e^0.4, e^1 and e^2."""
    soft = 0.5 * log(sum(exp(q / 0.5) for q in Q.tolist()) / 4)
    assert least(lambda y: gumbel(y, 0.5, 7.0)) == pytest.approx(soft, abs=1e-3)


def test_a_gap_beyond_the_clip_has_no_gradient() -> None:
    y = gaps(4.0, 2.0).requires_grad_()
    terms = gumbel(y, 0.5, 5.0)
    assert terms[0].item() == pytest.approx(exp(5) - 6)
    (slope,) = torch.autograd.grad(terms.sum(), y)
    assert slope.tolist() == pytest.approx([0.0, (exp(4) - 1) / 0.5])


def test_total_variation_has_a_quantile() -> None:
    """(1 - 0.9) / 0.9 is 0.11: no more than that may lie above, so it is the largest."""
    assert least(lambda y: total_variation(y, 0.9)) == pytest.approx(1.0, abs=1e-3)


def test_chi_square_does_not_rise_again_far_below() -> None:
    assert chi_square_conjugate(gaps(-6.0, -4.0, 0.0, 2.0)).tolist() == [0.0, 0.0, 0.0, 3.0]
    assert chi_square(gaps(-6.0), 0.8).tolist() == pytest.approx([0.2 * 6.0])


@pytest.mark.parametrize("loss", [lambda y: expectile(y, 0.999), lambda y: chi_square(y, 0.99)])
def test_towards_the_end_it_is_the_best_of_the_data(loss: Callable[[Tensor], Tensor]) -> None:
    assert least(loss) > 0.95
