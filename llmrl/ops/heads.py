"""Critic heads: what a critic's outputs mean as numbers, and how they learn a target.

A head is a frozen value; the weights belong to the critic, whose last layer has `head.outputs` columns. Softmaxes and
normal distributions collapse in bfloat16, so all of it is computed in float32 (float64 where the outputs are).

Source: Farebrother et al. 2024, "Stop Regressing" (arXiv 2403.03950), for `hl_gauss` and `two_hot`; Bellemare et al.
    2017 (arXiv 1707.06887) for `c51`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from llmrl.ops.dueling import softabs


class Head(Protocol):
    """The interface of every head in `HEADS`."""

    @property
    def outputs(self) -> int:
        """K, the width of the critic's last layer."""
        ...

    def values(self, outputs: Tensor) -> Tensor:
        """(...) numbers of (..., K) outputs, with gradient."""
        ...

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(...) terms to minimise, not averaged, of (..., K) outputs and (...) targets, which are constants."""
        ...

    def outside(self, targets: Tensor) -> Tensor:
        """(...) 1.0 where a target lies outside what the head can say, and is cut to it; else 0.0."""
        ...

    def clipped_share(self, targets: Tensor) -> float:
        """The mean of `outside`. Above 0 the head's range is too narrow for the returns."""
        ...


@dataclass(frozen=True, kw_only=True)
class Scalar:
    """A single number, by half the squared error. It can give any return; noisy targets pull hard."""

    @property
    def outputs(self) -> int:
        return 1

    def values(self, outputs: Tensor) -> Tensor:
        return wide(outputs).squeeze(-1)

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * (self.values(outputs) - targets.detach()).square()

    def outside(self, targets: Tensor) -> Tensor:
        return torch.zeros_like(targets)

    def clipped_share(self, targets: Tensor) -> float:
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Capped:
    """A number of at most `high`, which is `high` less the smooth absolute value of the output, by half the squared
    error.

    For returns whose largest is known: no bootstrapped value climbs above it. At an output of 0 it has no slope.
    Source: the value of B-Coder (arXiv 2310.03173).
    """

    high: float = 1.0  # the largest return

    @property
    def outputs(self) -> int:
        return 1

    def values(self, outputs: Tensor) -> Tensor:
        return self.high - softabs(wide(outputs).squeeze(-1))

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * (self.values(outputs) - targets.detach()).square()

    def outside(self, targets: Tensor) -> Tensor:
        return (targets > self.high).to(targets.dtype)

    def clipped_share(self, targets: Tensor) -> float:
        return float(self.outside(targets).mean()) if targets.numel() else 0.0


@dataclass(frozen=True, kw_only=True)
class _Ranged:
    """A head that can say numbers from `low` to `high` only: they must hold every return, penalties and KL included."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low {self.low}, high {self.high}: expected finite numbers, low below high")

    def outside(self, targets: Tensor) -> Tensor:
        low, high = self.support
        return ((targets < low) | (targets > high)).to(targets.dtype)

    def clipped_share(self, targets: Tensor) -> float:
        return float(self.outside(targets).mean()) if targets.numel() else 0.0

    @property
    def support(self) -> tuple[float, float]:
        """The least and the largest target that is not cut."""
        return self.low, self.high


@dataclass(frozen=True, kw_only=True)
class Bernoulli(_Ranged):
    """The probability of `high` against `low`, by binary cross-entropy.

    The simplest strong critic for a reward of 0 or 1 at the end of an episode, undiscounted: the value is the
    probability to succeed.
    """

    @property
    def outputs(self) -> int:
        return 1

    def values(self, outputs: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * wide(outputs).squeeze(-1).sigmoid()

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        logits = wide(outputs).squeeze(-1)
        chance = (targets.detach().to(logits.dtype).clamp(self.low, self.high) - self.low) / (self.high - self.low)
        return binary_cross_entropy_with_logits(logits, chance, reduction="none")


@dataclass(frozen=True, kw_only=True)
class Attention(_Ranged):
    """A number from `low` to `high` of the prompt alone, whose states are pooled with learned weights, by half the
    squared error.

    Every token of an answer gets the same number: what is expected before anything is written.
    Source: the value head of A-LoL (arXiv 2305.14718), with padding masked and without its dropout.
    """

    queries: int = 8  # ways of weighing the prompt's tokens; divides the width of the trunk

    @property
    def outputs(self) -> int:
        return 1

    def values(self, outputs: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * wide(outputs).squeeze(-1).sigmoid()

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        aim = targets.detach().clamp(self.low, self.high)
        return 0.5 * (self.values(outputs) - aim).square()


@dataclass(frozen=True, kw_only=True)
class HLGauss(_Ranged):
    """A histogram over the returns, learned by cross-entropy with a normal distribution around each target.

    A target near the edge of the histogram loses the part of its distribution beyond it, and would be decoded too far
    inside; so the histogram goes on by `padding` deviations on either side of [low, high].
    """

    bins: int = 51  # of the whole histogram, padding included
    sigma_ratio: float = 0.75  # deviation of a target's distribution, in bins: its mass lies on about six
    padding: float = 4.0  # deviations; with less than 4 the ends of the range are decoded with a bias

    def __post_init__(self) -> None:
        _Ranged.__post_init__(self)
        if not (self.sigma_ratio > 0 and self.padding >= 0):
            raise ValueError(f"sigma_ratio {self.sigma_ratio}, padding {self.padding}: expected above 0 and at least 0")
        needed = 2 * self.padding * self.sigma_ratio
        if self.bins < needed + 2:
            raise ValueError(f"bins {self.bins}: padding takes {needed:g} of them; expected at least {needed + 2:g}")

    @property
    def outputs(self) -> int:
        return self.bins

    @property
    def width(self) -> float:
        """Width of a bin, in units of return."""
        return (self.high - self.low) / (self.bins - 2 * self.padding * self.sigma_ratio)

    @property
    def support(self) -> tuple[float, float]:
        beyond = self.padding * self.sigma_ratio * self.width
        return self.low - beyond, self.high + beyond

    def values(self, outputs: Tensor) -> Tensor:
        edges = self._edges(outputs)
        return expectation(outputs, (edges[1:] + edges[:-1]) / 2)

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, self.probabilities(targets.to(wide(outputs).dtype)))

    def probabilities(self, targets: Tensor) -> Tensor:
        """(..., bins) mass of each bin for (...) targets; sums to 1."""
        edges = self._edges(targets)
        mean = wide(targets).detach().clamp(*self.support).unsqueeze(-1)
        below: Tensor = torch.special.ndtr((edges - mean) / (self.sigma_ratio * self.width))
        mass = below.diff(dim=-1)
        return mass / mass.sum(-1, keepdim=True).clamp(min=torch.finfo(mass.dtype).tiny)

    def _edges(self, like: Tensor) -> Tensor:
        return torch.linspace(*self.support, self.bins + 1, dtype=wide(like).dtype, device=like.device)


@dataclass(frozen=True, kw_only=True)
class TwoHot(_Ranged):
    """Atoms from `low` to `high`, learned by cross-entropy with the target's mass on its two neighbours."""

    bins: int = 51  # atoms

    def __post_init__(self) -> None:
        _Ranged.__post_init__(self)
        if self.bins < 2:
            raise ValueError(f"bins {self.bins}: expected at least 2 atoms")

    @property
    def outputs(self) -> int:
        return self.bins

    def values(self, outputs: Tensor) -> Tensor:
        return expectation(outputs, self.atoms(outputs))

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, self.probabilities(targets.to(wide(outputs).dtype)))

    def probabilities(self, targets: Tensor) -> Tensor:
        """(..., bins) mass of each atom for (...) targets; sums to 1 and has the target, if inside, as its mean."""
        target = wide(targets).detach()
        return project(torch.ones_like(target).unsqueeze(-1), target.unsqueeze(-1), self.atoms(target))

    def atoms(self, like: Tensor) -> Tensor:
        """(bins,) of the precision and on the device of `like`."""
        return torch.linspace(self.low, self.high, self.bins, dtype=wide(like).dtype, device=like.device)


@dataclass(frozen=True, kw_only=True)
class C51(TwoHot):
    """A two-hot critic that can also learn from the distribution of the next state.

    `terms` takes plain targets, for which the projection is the two-hot one; `bootstrapped` takes the next state's
    outputs.
    """

    def bootstrapped(self, outputs: Tensor, following: Tensor, rewards: Tensor, gamma: float) -> Tensor:
        """(...) terms of (..., K) outputs against `reward + gamma * value` of the (..., K) outputs that follow."""
        atoms = self.atoms(outputs)
        ahead = torch.softmax(wide(following).detach(), dim=-1)
        return cross_entropy(outputs, project(ahead, rewards.detach().unsqueeze(-1) + gamma * atoms, atoms))


def project(probabilities: Tensor, places: Tensor, atoms: Tensor) -> Tensor:
    """A distribution moved onto evenly spaced atoms; it keeps its mean where no place had to be cut.

    Args:
        probabilities: (..., J) mass.
        places: (..., J) where the mass lies, in units of return; cut to the atoms' range.
        atoms: (K,) evenly spaced, rising, at least 2.
    Returns:
        (..., K) mass of each atom: each place gives its own to its two neighbours, the nearer one more.
    Source: Bellemare et al. 2017 (arXiv 1707.06887), eq. 7.
    """
    step = (atoms[-1] - atoms[0]) / (len(atoms) - 1)
    position = ((places.clamp(atoms[0], atoms[-1]) - atoms[0]) / step).clamp(0, len(atoms) - 1)
    lower = position.floor().clamp(max=len(atoms) - 2)
    share = position - lower
    moved = probabilities.new_zeros((*probabilities.shape[:-1], len(atoms)))
    moved = moved.scatter_add(-1, lower.long(), probabilities * (1 - share))
    return moved.scatter_add(-1, lower.long() + 1, probabilities * share)


def expectation(outputs: Tensor, atoms: Tensor) -> Tensor:
    """(...) mean of (K,) atoms under the softmax of (..., K) outputs; no matrix product, which autocast would round."""
    return (torch.softmax(wide(outputs), dim=-1) * atoms).sum(-1)


def cross_entropy(outputs: Tensor, probabilities: Tensor) -> Tensor:
    """(...) in nats, of the softmax of (..., K) outputs against (..., K) probabilities, which are a constant."""
    return -(probabilities.detach() * torch.log_softmax(wide(outputs), dim=-1)).sum(-1)


def attention_pool(query: Tensor, keys: Tensor, values: Tensor, owner: Tensor, samples: int) -> Tensor:
    """Means of each sample's values, weighted by the softmax of query times key over the sample's own tokens.

    Args:
        query: (Q, d), learned.
        keys, values: (N, Q, d) of the tokens that count.
        owner: (N,) int64, the sample of each token.
        samples: how many there are.
    Returns:
        (samples, Q, d); 0.0 for a sample without a token.
    """
    scores = (keys * query).sum(-1) / query.shape[-1] ** 0.5
    spread = owner[:, None].expand_as(scores)
    empty = scores.new_full((samples, scores.shape[1]), -torch.inf)
    highest = empty.scatter_reduce(0, spread, scores.detach(), "amax")
    shares = (scores - highest[owner]).exp()
    mass = torch.zeros_like(empty).index_add(0, owner, shares).clamp(min=torch.finfo(scores.dtype).tiny)
    pooled = values.new_zeros(samples, *values.shape[1:]).index_add(0, owner, shares.unsqueeze(-1) * values)
    return pooled / mass.unsqueeze(-1)


def wide(numbers: Tensor) -> Tensor:
    """The same numbers in float32; in float64 where they are."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


HEADS: dict[str, type] = {
    "scalar": Scalar,
    "capped": Capped,
    "bernoulli": Bernoulli,
    "hl_gauss": HLGauss,
    "two_hot": TwoHot,
    "c51": C51,
    "attention": Attention,
}
"""Heads by the name that a recipe uses; made with `llmrl.plugins.construct(HEADS[name], options, where)`."""
