"""The engine that samples and the trainer that learns never agree exactly on a probability: correct it and watch it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from llmrl.batch import Batch
from llmrl.errors import RecipeError
from llmrl.ops.kl import LIMIT, k3, log_ratio
from llmrl.ops.losses import sequence_mean, sequence_sum
from llmrl.samples import Array, Sample

Mode = Literal[
    "token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "geometric_mask", "k3_mask", "none"
]
BOUNDS: Mapping[Mode, tuple[float, float]] = {
    "token_truncate": (0.0, 2.0),
    "token_mask": (0.5, 2.0),
    "sequence_truncate": (0.0, 2.0),
    "sequence_mask": (0.0, 3.0),
    "geometric_mask": (0.999, 1.001),
    "k3_mask": (0.0, 1e-2),
}
"""Floor and cap of each mode, where an algorithm does not set its own."""

INVESTIGATE, STOP = 1e-3, 1e-2
"""Mean k3 of engine and trainer, in nats, above which to look for the cause, and above which not to go on."""
LENGTHS = (256, 1024, 4096, 16384)
"""Upper ends, in action tokens, of the buckets in which disagreement is told apart by length."""


def require_scaled(samples: Sequence[Sample]) -> None:
    """Refuse rows whose `sampled_logprobs` a trainer cannot reproduce: a ratio against them is wrong, and looks right.

    Raises:
        RecipeError: a row's log-probabilities are of another distribution than the whole softmax at the sampling
            temperature.
    """
    for row in samples:
        if row.semantics != "scaled":
            raise RecipeError(
                f"group {row.group}, episode {row.episode}: the engine's log-probabilities are {row.semantics!r}, and "
                "a ratio against them is biased; expected 'scaled'. Set rollout.top_p=1 rollout.top_k=0 "
                "rollout.min_p=0, or algorithm.importance_sampling_correction=none, which never reads them"
            )


@dataclass(frozen=True, slots=True)
class Correction:
    """Weights that correct token terms for having been sampled by the engine and not by the trainer.

    With `ratio = old / sampled` of one token:

    | mode | what is bounded | weight inside the bounds | outside |
    |---|---|---|---|
    | token_truncate | ratio | ratio | the bound |
    | token_mask | ratio | ratio | 0 |
    | sequence_truncate | product of ratios over the row | product | the bound |
    | sequence_mask | product | product | 0 |
    | geometric_mask | geometric mean of the row's ratios | 1 | 0 |
    | k3_mask | mean k3 of the row, an estimate of KL(sampled, old) | 1 | 0 |

    A product grows and shrinks exponentially with length: an error of 0.01 a token makes 2.7 of 100 tokens and 22,000
    of 1,000, so both modes that bound it reject or overweigh long rows first. Weights carry no gradient, and what is
    rejected stays in the denominators of the average, which were set before: otherwise the rest would be amplified.

    Raises:
        ValueError: bounds that exclude perfect agreement, or are in the wrong order.
    """

    mode: Mode = "token_truncate"
    floor: float | None = None  # None: that of BOUNDS
    cap: float | None = None

    def __post_init__(self) -> None:
        if self.mode == "none":
            return
        low, high = self.bounds
        agreement = 0.0 if self.mode == "k3_mask" else 1.0
        if high < agreement or high <= 0:
            raise ValueError(f"importance_sampling_cap {high}: expected at least 1, or above 0 for k3_mask")
        if not 0 <= low <= agreement:
            raise ValueError(f"importance_sampling_floor {low}: expected 0 to 1, and 0 for k3_mask")

    @property
    def bounds(self) -> tuple[float, float]:
        """Floor and cap; (0, inf) for "none"."""
        low, high = BOUNDS.get(self.mode, (0.0, float("inf")))
        return low if self.floor is None else self.floor, high if self.cap is None else self.cap

    def bounded(self, old: Tensor, batch: Batch) -> Tensor:
        """(B, T) what the bounds are about: every token has that of its own, or that of its row. No gradient."""
        distance = log_ratio(old.detach(), batch.sampled_logprobs)
        if self.mode in ("sequence_truncate", "sequence_mask"):
            distance = sequence_sum(distance, batch).clamp(-LIMIT, LIMIT)
        elif self.mode == "geometric_mask":
            distance = sequence_mean(distance, batch)
        elif self.mode == "k3_mask":
            return sequence_mean(k3(batch.sampled_logprobs, old.detach()), batch)
        return distance.exp()

    def weights(self, old: Tensor, batch: Batch) -> Tensor:
        """(B, T) importance weights, exactly 1 where trainer and engine agree; by `sample_ids`, so packing is free.

        Args:
            old: (B, T) log-probabilities by the trainer, before the update; those of the engine are in the batch.
        """
        if self.mode == "none":
            return torch.ones_like(old).detach()
        return self._weights(self.bounded(old, batch))

    def _weights(self, bounded: Tensor) -> Tensor:
        low, high = self.bounds
        if self.mode in ("token_truncate", "sequence_truncate"):
            return bounded.clamp(low, high)
        weight = torch.ones_like(bounded) if self.mode in ("geometric_mask", "k3_mask") else bounded
        return torch.where((bounded >= low) & (bounded <= high), weight, torch.zeros_like(weight))

    def apply(self, terms: Tensor, old: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Weight the policy's terms; returns them and (B, T) metrics. Mode "none" changes nothing.

        Args:
            terms: (B, T) of the policy gradient alone: a divergence or an entropy in the loss is not weighted.
            old: (B, T) log-probabilities by the trainer, before the update.
        """
        if self.mode == "none":
            return terms, {}
        bounded, distance = self.bounded(old, batch), log_ratio(old.detach(), batch.sampled_logprobs)
        weight, (low, high) = self._weights(bounded), self.bounds
        metrics = {
            "sampling/importance_sampling_ratio/mean": weight,
            "sampling/importance_sampling_ratio/square_mean": weight.square(),
            "sampling/sampling_logp_difference/mean": distance.abs(),
            "sampling/k1": -distance,
            "sampling/k3": k3(batch.sampled_logprobs, old.detach()),
            "sampling/chi2": (2 * distance).exp() - 1,
            "sampling/above_cap": (bounded > high).to(weight.dtype),
            "sampling/below_floor": (bounded < low).to(weight.dtype),
        }
        return weight * terms, metrics


def off_policy_mask(new: Tensor, batch: Batch, threshold: float) -> Tensor:
    """(B, T) 0 on the negative advantages of samples that have drifted off policy, 1 elsewhere; no gradient.

    Args:
        new: (B, T) log-probabilities under the policy being trained.
        threshold: nats a token, above 0. Where the mean of `sampled - new` over a sample's action tokens is above it,
            tokens with a negative advantage are masked: lowering the probability of unlikely tokens can break a policy,
            while a good answer is worth learning from any policy.
    Source: DeepSeek-V3.2 (arXiv 2512.02556), off-policy sequence masking.
    """
    drift = sequence_mean(batch.sampled_logprobs - new.detach(), batch)
    return ((batch.advantages >= 0) | (drift <= threshold)).to(new.dtype)


def diagnostics(old: Tensor, sampled: Tensor, mask: Tensor, cap: float = 2.0) -> dict[str, float]:
    """Disagreement of trainer and engine, over the action tokens of a process.

    Args:
        old, sampled: log-probabilities by trainer and engine, of one shape.
        mask: bool, action tokens.
        cap: of the importance weight.
    Returns:
        `abs/mean`, `abs/max`: of |old - sampled|, in nats. `k1`, `k3`: estimates of KL(sampled, old); see INVESTIGATE.
        `chi2`: mean squared ratio less 1. `perplexity_ratio`: of trainer to engine. `above_cap`: share of tokens.
        `ess`: effective sample size of the capped weights, as a share. `correlation`: Pearson's, of the probabilities;
        left out where one side is constant. Empty without action tokens.
    """
    distance = log_ratio(old, sampled)[mask].double()
    if not len(distance):
        return {}
    ratio = distance.exp()
    weight = ratio.clamp(max=cap)
    numbers = {
        "abs/mean": distance.abs().mean(),
        "abs/max": distance.abs().max(),
        "k1": -distance.mean(),
        "k3": k3(sampled.double(), old.double())[mask].mean(),
        "chi2": ratio.square().mean() - 1,
        "perplexity_ratio": (-distance.mean()).exp(),
        "above_cap": (ratio > cap).double().mean(),
        "ess": weight.sum().square() / (len(weight) * weight.square().sum()),
    }
    spread = [side[mask].double().exp() - side[mask].double().exp().mean() for side in (old, sampled)]
    norms = spread[0].norm() * spread[1].norm()
    if norms > 0:
        numbers["correlation"] = (spread[0] * spread[1]).sum() / norms
    return {name: float(number) for name, number in numbers.items()}


def alarm(divergence: float) -> Literal[0, 1, 2]:
    """Level for a mean k3 of engine and trainer, in nats: 0 nothing, 1 look for the cause, 2 do not go on.

    Remedies, in order: the same attention and precision on both sides, an output head in float32, batch-invariant
    kernels, replayed routing for mixtures of experts; a correction only then.
    """
    return 2 if divergence > STOP else 1 if divergence > INVESTIGATE else 0


def step_metrics(rows: Sequence[Sample], version: int) -> dict[str, float]:
    """A step's staleness and disagreement, from its rows on the host: exact, and the same on every rank.

    Args:
        rows: of all ranks.
        version: of the weights before the step; a row's lag is how many loads of weights lie between.
    Returns:
        `staleness/mean`, `staleness/max`: lags in steps, over rows. If the rows carry old log-probabilities that may
        be compared, `sampling/` and the names of `diagnostics`, `sampling/alarm`, and mean k3 by length of the row and
        by lag. Empty without rows.
    """
    if not rows:
        return {}
    lags = [version - row.version for row in rows]
    metrics = {"staleness/mean": sum(lags) / len(lags), "staleness/max": float(max(lags))}
    known = [_Pair.of(row, lag) for row, lag in zip(rows, lags, strict=True) if _comparable(row)]
    whole = _diagnose(known)
    if not whole:
        return metrics
    metrics |= {f"sampling/{name}": number for name, number in whole.items()}
    metrics["sampling/alarm"] = float(alarm(whole["k3"]))
    for low, high in zip((0, *LENGTHS), (*LENGTHS, None), strict=True):
        bucket = [pair for pair in known if low < len(pair.old) and (high is None or len(pair.old) <= high)]
        if numbers := _diagnose(bucket):
            metrics[f"sampling/k3/{f'to_{high}' if high else f'above_{low}'}_tokens"] = numbers["k3"]
    for lag in sorted({pair.lag for pair in known}):
        metrics[f"sampling/k3/lag_{lag}"] = _diagnose([pair for pair in known if pair.lag == lag])["k3"]
    return metrics


@dataclass(frozen=True, slots=True)
class _Pair:
    """Log-probabilities of the action tokens of one row, by the trainer and by the engine."""

    lag: int
    old: Array
    sampled: Array

    @classmethod
    def of(cls, row: Sample, lag: int) -> _Pair:
        chosen = row.action_mask
        return cls(lag, row.old_logprobs[chosen], row.sampled_logprobs[chosen])


def _comparable(row: Sample) -> bool:
    return row.semantics == "scaled" and {"old_logprobs", "sampled_logprobs"} <= row.columns.keys()


def _diagnose(pairs: Sequence[_Pair]) -> dict[str, float]:
    if not pairs:
        return {}
    old = torch.from_numpy(np.concatenate([pair.old for pair in pairs]))
    sampled = torch.from_numpy(np.concatenate([pair.sampled for pair in pairs]))
    return diagnostics(old, sampled, torch.ones_like(old, dtype=torch.bool))
