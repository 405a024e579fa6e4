"""Rows into padded or packed tensors; a step into minibatches; rows balanced to ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from llmrl.types import Sample

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows of one micro-batch. All are (B, T), float32 unless said otherwise; entry t is about token t itself.

    Padded: one sample a row, padding at its end, where no real token sees it. Packed: many samples behind one another
    in one row, told apart by `sample_ids` and by positions that begin again. Losses that sum over a sequence must sum
    by `sample_ids`, never by row. Padding has `action_mask` False and weighs 0.
    """

    token_ids: Tensor  # int64
    position_ids: Tensor  # int64; from 0 in every sample
    sample_ids: Tensor  # int64, from 0; -1 for padding
    samples: int  # how many there are
    action_mask: Tensor  # bool
    sampled_logprobs: Tensor
    old_logprobs: Tensor | None  # None where the algorithm did not ask for them
    ref_logprobs: Tensor | None
    values: Tensor | None
    next_values: Tensor | None
    advantages: Tensor
    returns: Tensor
    weights: Tensor
    value_weights: Tensor
    nll_weights: Tensor | None = None
    old_kept_logprobs: Tensor | None = None
    support_ids: Tensor | None = (
        None  # (K,) int64: the ids that every token was sampled among, token by token, row by row
    )
    kept_counts: Tensor | None = None  # int64: how many of them belong to each token


def collate(
    rows: Sequence[Sample], pack: bool, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Batch:
    """The rows as tensors, one behind the other in a single row if `pack`, else padded to the longest.

    `dtype` is that of the columns that are not integers; checks ask for float64.
    """
    lengths = [len(row.token_ids) for row in rows]
    width = sum(lengths) if pack else max(lengths)
    lines = 1 if pack else len(rows)

    def column(values: Sequence[Sequence[float] | Sequence[int] | None], kind: torch.dtype, fill: float = 0) -> Tensor:
        flat: list[float] = []
        for length, line in zip(lengths, values, strict=True):
            flat += [fill] * length if line is None else line
            flat += [] if pack else [fill] * (width - length)
        return torch.tensor(flat, dtype=kind, device=device).view(lines, width)

    def optional(values: Sequence[Sequence[float] | None]) -> Tensor | None:
        return None if values[0] is None else column(values, dtype)

    # Padding goes on counting positions: Transformers reads a position that begins again as the start of a packed row.
    positions = [list(range(length)) for length in lengths] if pack else [list(range(width))] * len(rows)
    if not pack:
        position_ids = torch.tensor(positions, dtype=torch.int64, device=device)
    else:
        position_ids = column(positions, torch.int64)
    weights = column([row.weights for row in rows], dtype)
    return Batch(
        token_ids=column([row.token_ids for row in rows], torch.int64),
        position_ids=position_ids,
        sample_ids=column([[i] * length for i, length in enumerate(lengths)], torch.int64, fill=-1),
        samples=len(rows),
        action_mask=column([row.action_mask for row in rows], torch.bool),
        sampled_logprobs=column([row.sampled_logprobs for row in rows], dtype),
        old_logprobs=optional([row.old_logprobs for row in rows]),
        ref_logprobs=optional([row.ref_logprobs for row in rows]),
        values=optional([row.values for row in rows]),
        next_values=optional([row.next_values for row in rows]),
        advantages=column([row.advantages for row in rows], dtype),
        returns=column([row.returns for row in rows], dtype),
        weights=weights,
        value_weights=column([row.value_weights for row in rows], dtype)
        if rows[0].value_weights is not None
        else weights,
        nll_weights=optional([row.nll_weights for row in rows]),
        old_kept_logprobs=optional([row.old_kept_logprobs for row in rows]),
        **_kept(rows, column, device),
    )


def _kept(rows: Sequence[Sample], column: Callable[..., Tensor], device: torch.device | str) -> dict[str, Tensor]:
    """`support_ids` and `kept_counts`, where the rows have them."""
    if any(row.support_ids is None for row in rows):
        return {}
    sets = [np.asarray(kept, dtype=np.int64) for row in rows for kept in row.support_ids or () if len(kept)]
    flat = torch.from_numpy(np.concatenate(sets) if sets else np.zeros(0, dtype=np.int64))
    counts = [[len(kept) for kept in row.support_ids or ()] for row in rows]
    return {"support_ids": flat.to(device), "kept_counts": column(counts, torch.int64)}


def inseparable(rows: Sequence[Sample], keep_groups: bool) -> list[list[int]]:
    """Indices of rows that must stay together: each alone, or all of a group."""
    if not keep_groups:
        return [[i] for i in range(len(rows))]
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row.group, []).append(i)
    return list(groups.values())


def minibatches(
    rows: Sequence[Sample], *, epochs: int, parts: int, keep_groups: bool, seed: int
) -> Iterator[list[Sample]]:
    """Every row once per epoch, in `parts` minibatches of nearly equal size, in an order that only the seed decides."""
    together = inseparable(rows, keep_groups)
    for epoch in range(epochs):
        order = list(range(len(together)))
        Random(f"{seed}/{epoch}").shuffle(order)
        for part in split(order, min(parts, len(order))):
            yield [rows[i] for unit in part for i in together[unit]]


def balance_across_ranks(
    lengths: Sequence[int], together: Sequence[Sequence[int]], ranks: int, budget: int, pack: bool
) -> list[list[list[int]]]:
    """Which rank computes which rows, in which micro-batches.

    Args:
        lengths: tokens of each row.
        together: `inseparable`; the rows of one never part.
        ranks: how many there are.
        budget: tokens of a micro-batch, padding included; a unit that is larger has one of its own.
        pack: whether rows stand behind one another, so that only real tokens count.
    Returns:
        [rank][micro-batch][row index]. Every rank gets as many micro-batches, some perhaps empty, since forward and
        backward passes of sharded models are collective; the real tokens of the ranks differ as little as is easy.
    """
    shards: list[list[Sequence[int]]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for unit in sorted(together, key=lambda unit: max(lengths[i] for i in unit), reverse=True):
        rank = loads.index(min(loads))
        shards[rank].append(unit)
        loads[rank] += sum(lengths[i] for i in unit)
    balanced = [_fill(shard, lengths, budget, pack) for shard in shards]
    most = max(len(shard) for shard in balanced)
    return [shard + [[] for _ in range(most - len(shard))] for shard in balanced]


def split(items: Sequence[T], parts: int) -> list[Sequence[T]]:
    """`parts` runs of the items whose sizes differ by one at most."""
    size, extra = divmod(len(items), parts)
    cuts = [i * size + min(i, extra) for i in range(parts + 1)]
    return [items[a:b] for a, b in pairwise(cuts)]


def _fill(shard: Sequence[Sequence[int]], lengths: Sequence[int], budget: int, pack: bool) -> list[list[int]]:
    """Units, longest first, into micro-batches of at most `budget` tokens."""
    filled: list[list[int]] = []
    for unit in shard:
        grown = [*filled[-1], *unit] if filled else list(unit)
        cost = sum(lengths[i] for i in grown) if pack else max(lengths[i] for i in grown) * len(grown)
        if filled and cost <= budget:
            filled[-1] = grown
        else:
            filled.append(list(unit))
    return filled
