"""The engine that samples and the trainer that learns never agree exactly on a probability: correct it and watch it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmrl.errors import RecipeError
from llmrl.ops.kl import k3, log_ratio
from llmrl.types import Sample


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


def token_truncate(old: Tensor, sampled: Tensor, cap: float) -> Tensor:
    """(B, T) importance weights `min(old / sampled, cap)`, without gradient; exactly 1 where trainer and engine agree.

    Args:
        old: (B, T) log-probabilities by the trainer, before the update.
        sampled: (B, T) log-probabilities by the engine.
        cap: the largest weight, at least 1.
    Source: truncated importance sampling, Ionides 2008; for engines and trainers Yao et al. 2025.
    """
    return torch.exp(log_ratio(old, sampled)).clamp(max=cap).detach()


def token_mask(old: Tensor, sampled: Tensor, low: float, high: float) -> Tensor:
    """(B, T) importance weights `old / sampled`, 0 outside [low, high], without gradient.

    Rejected tokens stay in the denominator of the average: otherwise those that remain would be amplified.
    """
    ratio = torch.exp(log_ratio(old, sampled))
    return torch.where((ratio >= low) & (ratio <= high), ratio, torch.zeros_like(ratio)).detach()


def diagnostics(old: Tensor, sampled: Tensor, mask: Tensor, cap: float = 2.0) -> dict[str, float]:
    """How far trainer and engine disagree, over the action tokens of one process.

    Args:
        old, sampled: (B, T) log-probabilities by trainer and engine.
        mask: (B, T) bool, action tokens.
        cap: of the importance weight.
    Returns:
        `abs/mean`, `abs/max`: of |old - sampled|, in nats. `k1`, `k3`: estimates of KL(sampled, old); investigate k3
        above 1e-3, stop above 1e-2. `chi2`: mean squared ratio less 1. `perplexity_ratio`: of trainer to engine.
        `above_cap`: share of tokens. `ess`: effective sample size of the capped weights, as a share. Empty without
        action tokens.
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
    return {name: float(number) for name, number in numbers.items()}
