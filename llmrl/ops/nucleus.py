"""Tokens that top-p leaves: one rule for every engine that reports them, in float32 at least."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor


def nucleus(logits: Tensor, top_p: float, *, least: int = 1, always: Sequence[int] = ()) -> Tensor:
    """(n, V) bool: the smallest set of most probable tokens whose probability exceeds `top_p`, and what must be kept.

    Args:
        logits: (n, V), of any floating type, after the temperature.
        top_p: above 0; from 1 on everything is kept.
        least: how many of the most probable tokens are kept in any case.
        always: ids that are kept in any case: those that end a completion.
    Source: NLPO, Ramamurthy et al. 2022 (arXiv 2210.01241); sums in half precision can lose the token at the border.
    """
    kept = torch.ones(logits.shape, dtype=torch.bool, device=logits.device)
    if top_p < 1.0:
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        probabilities, order = wide.softmax(-1).sort(dim=-1, descending=True, stable=True)
        before = probabilities.cumsum(-1) - probabilities
        chosen = before <= top_p
        chosen[:, :least] = True
        kept = torch.zeros_like(kept).scatter(-1, order, chosen)
        kept[:, list(always)] = True
    return kept


def ids_of(kept: Tensor) -> list[array[int]]:
    """The ids that each row of an (n, V) mask keeps, ascending, as 32-bit integers: a dense mask is V times larger."""
    columns = kept.nonzero()[:, 1]
    flat = array("i", columns.to(torch.int32).cpu().numpy().tobytes())
    ends = kept.sum(-1).cumsum(0).tolist()
    return [flat[start:end] for start, end in zip([0, *ends], ends, strict=False)]
