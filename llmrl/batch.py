"""Samples into padded or packed tensors; a step into minibatches; samples balanced to ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from llmrl.columns import COLUMNS, TokenColumns
from llmrl.errors import ColumnError
from llmrl.samples import Array, Sample, prompt_hash, prompt_length

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch(TokenColumns[Tensor]):
    """Samples of one micro-batch. Each column is (B, T), and those that are no integers are float32.

    Padded: one sample a row, padding at its end, where no real token sees it. Packed: many samples behind one another
    in one row, told apart by `sample_ids` and by positions that begin again. Losses that sum over a sequence must sum
    by `sample_ids`, never by row. Padding has `turn_ids` -1 and weighs 0.
    """

    columns: Mapping[str, Tensor]  # those of `llmrl.columns.COLUMNS` that every sample has; integers are int64
    position_ids: Tensor  # (B, T) int64; from 0 in every sample
    sample_ids: Tensor  # (B, T) int64, from 0; -1 for padding
    group_ids: Tensor  # (samples,) int64, from 0: samples of one group have one number
    numbers: Mapping[str, Tensor] = field(default_factory=dict)  # (samples,) those that every sample has; see `number`
    samples: int  # how many there are
    images: Sequence[Sequence[str]] = ()  # pictures of each sample
    support_ids: Tensor | None = None  # (K,) int64: ids that every token was sampled among, row by row

    def number(self, name: str) -> Tensor:
        """(samples,) a number of each sample: stored beside the data (a margin), or set by credit (`with_numbers`).

        Raises:
            ColumnError: not every sample has it.
        """
        if name not in self.numbers:
            raise ColumnError(
                f"the loss reads the number {name} of each sample, which not every sample has; known: "
                f"{', '.join(self.numbers) or 'none'}. A column of the data gives it, or credit() sets it: "
                f"sample.with_numbers({name}=...)"
            )
        return self.numbers[name]

    @property
    def action_mask(self) -> Tensor:
        """(B, T) bool: True where the policy chose the token."""
        return self.turn_ids >= 0


@dataclass(frozen=True, slots=True)
class _Grid:
    """Places of the tokens of some samples in a (lines, width) tensor."""

    lengths: Array
    starts: Array  # of each sample, in the flat tensor
    lines: int
    width: int
    device: torch.device | str

    @classmethod
    def of(cls, samples: Sequence[Sample], pack: bool, device: torch.device | str) -> _Grid:
        lengths = np.array([len(sample.token_ids) for sample in samples])
        if pack:
            return cls(lengths, np.cumsum(lengths) - lengths, 1, int(lengths.sum()), device)
        width = int(lengths.max())
        return cls(lengths, np.arange(len(samples)) * width, len(samples), width, device)

    def tensor(self, arrays: Sequence[Array], dtype: type, padding: int = 0) -> Tensor:
        """(lines, width) of one array per sample: written into one buffer, sent to the device once."""
        flat: Array = np.full(self.lines * self.width, padding, dtype)
        for start, array in zip(self.starts.tolist(), arrays, strict=True):
            flat[start : start + len(array)] = array
        return torch.from_numpy(flat).view(self.lines, self.width).to(self.device)

    def sample_ids(self) -> Tensor:
        return self.tensor([np.full(n, i) for i, n in enumerate(self.lengths)], np.int64, padding=-1)

    def position_ids(self) -> Tensor:
        """Padding goes on counting: Transformers reads a position that begins again as the start of a packed row."""
        flat = np.arange(self.lines * self.width)
        flat -= np.repeat(self.starts, self.lengths if self.lines == 1 else self.width)
        return torch.from_numpy(flat).view(self.lines, self.width).to(self.device)


def collate(
    samples: Sequence[Sample], pack: bool, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Batch:
    """The samples as tensors, one behind the other in a single row if `pack`, else padded to the longest.

    `dtype` is that of the columns that are not integers, float32 or float64, which checks ask for.
    """
    grid, floating = _Grid.of(samples, pack, device), np.float64 if dtype == torch.float64 else np.float32
    columns = {
        name: grid.tensor(
            [sample.get(name) for sample in samples],
            floating if column.dtype.startswith("float") else np.int64,
            column.padding,
        )
        for name, column in COLUMNS.items()
        if column.on_device and all(name in sample.columns for sample in samples)
    }
    numbers = {group: number for number, group in enumerate(dict.fromkeys(sample.group for sample in samples))}
    return Batch(
        columns=columns,
        position_ids=grid.position_ids(),
        sample_ids=grid.sample_ids(),
        group_ids=torch.tensor([numbers[sample.group] for sample in samples], device=device),
        numbers=_numbers(samples, dtype, device),
        samples=len(samples),
        images=[sample.images for sample in samples],
        support_ids=_support_ids(samples, device),
    )


def _numbers(samples: Sequence[Sample], dtype: torch.dtype, device: torch.device | str) -> dict[str, Tensor]:
    """(samples,) of each number that all of them have."""
    names = [name for name in samples[0].numbers if all(name in sample.numbers for sample in samples)]
    return {name: torch.tensor([s.numbers[name] for s in samples], dtype=dtype, device=device) for name in names}


def _support_ids(samples: Sequence[Sample], device: torch.device | str) -> Tensor | None:
    """The ids of all tokens one behind the other, where every sample has them."""
    flat = [sample.support_ids for sample in samples if sample.support_ids is not None]
    return torch.from_numpy(np.concatenate(flat, dtype=np.int64)).to(device) if len(flat) == len(samples) else None


def inseparable(samples: Sequence[Sample], keep_groups: bool) -> list[list[int]]:
    """Indices of samples that must stay together: each alone, or all of a group."""
    if not keep_groups:
        return [[i] for i in range(len(samples))]
    groups: dict[str, list[int]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault(sample.group, []).append(i)
    return list(groups.values())


def share_prompts(
    rows: Sequence[Sample], together: Sequence[Sequence[int]], budget: int, ranks: int
) -> tuple[list[list[int]], list[int]]:
    """Join units of one prompt, for networks that read neighbours' common beginning once.

    Args:
        together: units from `inseparable`.
        budget: tokens that units are joined to at most; with several ranks a quarter of a rank's share, if that is
            less, so that the ranks stay balanced.
    Returns:
        units, and the tokens that each sample costs: its prompt counts for the first sample of a unit alone.
    """
    lengths = [len(row.token_ids) for row in rows]
    limit = budget if ranks == 1 else min(budget, sum(lengths) // (4 * ranks))
    begun: dict[bytes, list[int]] = {}  # by the prompt of their first sample
    joined: list[list[int]] = []
    costs = list(lengths)
    for unit in together:
        hashes = [prompt_hash(rows[i]) for i in unit]
        known = set[bytes]()
        for i, prompt in zip(unit, hashes, strict=True):
            costs[i] -= prompt_length(rows[i]) if prompt in known else 0
            known.add(prompt)
        open_unit = begun.get(hashes[0])
        saved = prompt_length(rows[unit[0]])
        if open_unit is not None and sum(costs[i] for i in (*open_unit, *unit)) - saved <= limit:
            costs[unit[0]] -= saved
            open_unit += unit
            continue
        joined.append(list(unit))
        begun[hashes[0]] = joined[-1]
    return joined, costs


def minibatches(
    rows: Sequence[Sample], *, epochs: int, parts: int, keep_groups: bool, seed: int
) -> Iterator[list[Sample]]:
    """Give every sample once per epoch, in `parts` minibatches of nearly equal size; the seed decides the order."""
    together = inseparable(rows, keep_groups)
    for epoch in range(epochs):
        order = list(range(len(together)))
        Random(f"{seed}/{epoch}").shuffle(order)
        for part in split(order, min(parts, len(order))):
            yield [rows[i] for unit in part for i in together[unit]]


def balance_across_ranks(
    lengths: Sequence[int], together: Sequence[Sequence[int]], ranks: int, budget: int, pack: bool
) -> list[list[list[int]]]:
    """Divide the samples among the ranks, and each rank's among its micro-batches.

    Args:
        lengths: tokens of each sample, those that it shares with another of its unit left out.
        together: units from `inseparable` or `share_prompts`; each goes to a single micro-batch.
        ranks: number of ranks.
        budget: tokens of a micro-batch, padding included; a larger unit has a micro-batch of its own.
        pack: True packs samples behind one another, so that only real tokens count.
    Returns:
        [rank][micro-batch][sample index]. Every rank has the same number of micro-batches, some perhaps empty, since
        passes of sharded models are collective. A greedy rule keeps the real tokens of the ranks nearly equal.
    """
    shards: list[list[Sequence[int]]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for unit in sorted(together, key=lambda unit: (sum if pack else max)(lengths[i] for i in unit), reverse=True):
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
