"""Decoding that a critic moves: logits plus a multiple of how much better than expected each token is."""

from __future__ import annotations

import torch
from torch import Tensor


def perturbed(logits: Tensor, advantages: Tensor, beta: float, top_k: int = 0) -> Tensor:
    """(..., V) logits plus `beta` times Q - V, among the `top_k` likeliest tokens alone; 0: among all.

    A number that is the same for all tokens, such as V, changes no probability.
    Source: ILQL (arXiv 2206.11871), section 4.2.
    """
    moved = logits + beta * advantages.to(logits.dtype)
    if not top_k or top_k >= logits.shape[-1]:
        return moved
    least = logits.topk(top_k, dim=-1).values[..., -1:]
    return torch.where(logits < least, -torch.inf, moved)
