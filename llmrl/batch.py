"""Rows into padded or packed tensors; a step into minibatches; rows dealt to ranks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows of one micro-batch. All are (B, T), float32 unless said otherwise; entry t is about token t itself.

    Padded: one sample a row. Packed: many samples behind one another in one row, told apart by `sample_ids`. Losses that
    sum over a sequence must sum by `sample_ids`, never by row. Padding has `action_mask` False and weighs 0.
    """

    token_ids: Tensor  # int64
    position_ids: Tensor  # int64; from 0 in every sample
    attention_mask: Tensor | None  # int64, 1 for real tokens; None where packed
    sample_ids: Tensor  # int64, from 0; -1 for padding
    samples: int  # how many there are
    action_mask: Tensor  # bool
    sampled_logprobs: Tensor
    old_logprobs: Tensor | None  # None where the algorithm did not ask for them
    ref_logprobs: Tensor | None
    values: Tensor | None
    advantages: Tensor
    returns: Tensor
    weights: Tensor
    value_weights: Tensor
