"""Losses whose minimiser lies between the mean and the largest of a data set's action values.

Each is of the gap `y = Q - V` of actions that the data hold, and V learns from it: no action outside of the data is
ever asked. They are (B, T) terms, not averaged, in the precision of the gap.

Source: Kostrikov et al. 2021, IQL (arXiv 2110.06169), for `expectile`; Garg et al. 2023, XQL (arXiv 2301.02328), for
    `gumbel`; Sikchi et al. 2023, f-DVL (arXiv 2302.08560), for `total_variation` and `chi_square`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

ValueLoss = Literal["expectile", "gumbel", "tv", "chi2"]


def expectile(gap: Tensor, tau: float) -> Tensor:
    """Squares that weigh `tau` where the gap is above 0 and `1 - tau` below; 0.5 is the mean, 1 the largest."""
    above = (gap > 0).to(gap.dtype)  # no `where` of two numbers, which would be float32 beside a gap of float64
    return (tau * above + (1 - tau) * (1 - above)) * gap.square()


def gumbel(gap: Tensor, beta: float, clip: float) -> Tensor:
    """`exp(z) - z - 1` of `z = gap / beta`, which is cut at `clip` and has no gradient there.

    Its minimiser is `beta * log mean exp(Q / beta)`. A single action far above the others owns the whole gradient
    where `beta` is small: at 0.2 one outlier of 6 among 5,000 normal numbers does.
    """
    z = (gap / beta).clamp(max=clip)
    return z.exp() - z - 1


def total_variation(gap: Tensor, lam: float) -> Tensor:
    """`lam * max(y, 0) - (1 - lam) * y`; its minimiser is a quantile. Unbounded below where `lam` is not above 0.5."""
    return lam * gap.clamp(min=0) - (1 - lam) * gap


def chi_square(gap: Tensor, lam: float) -> Tensor:
    """`lam * f(y) - (1 - lam) * y` with f the positive part of chi-square's conjugate."""
    return lam * chi_square_conjugate(gap) - (1 - lam) * gap


def chi_square_conjugate(gap: Tensor) -> Tensor:
    """`y + y^2 / 4` where y is above 0, else 0.

    Not the larger of the two: below -4 the square exceeds -y, and that would rise again.
    """
    return torch.where(gap > 0, gap + gap.square() / 4, 0.0)
