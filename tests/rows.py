"""Rows of random tokens, and how far what a network says of them by rows is from what it says of padded ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from llmrl.critics.layers import Tokens

PROMPTS = (12, 30)


def random_rows(vocabulary: int, lengths: Sequence[int] = (23, 1, 40, 17, 8, 55)) -> list[Tensor]:
    """Rows that begin with one of two prompts, three neighbours with each; two rows are the same."""
    random = torch.Generator().manual_seed(0)

    def drawn(length: int) -> Tensor:
        return torch.randint(3, vocabulary, (length,), generator=random)

    prompts = [drawn(length) for length in PROMPTS]
    rows = [torch.cat([prompts[3 * i // len(lengths) % 2], drawn(length)]) for i, length in enumerate(lengths)]
    return [*rows, rows[-1]]


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """(B, T) tokens, positions and numbers of the rows, which are -1 at padding."""
    width = max(map(len, rows))
    ids = torch.stack([pad(row, (0, width - len(row))) for row in rows])
    owners = [pad(torch.full((len(row),), i), (0, width - len(row)), value=-1) for i, row in enumerate(rows)]
    return ids, torch.arange(width).expand(len(rows), -1), torch.stack(owners)


def packed(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """(1, N) of the same."""
    owners = [torch.full((len(row),), i) for i, row in enumerate(rows)]
    positions = [torch.arange(len(row)) for row in rows]
    return torch.cat(list(rows))[None], torch.cat(positions)[None], torch.cat(owners)[None]


def said(net: Any, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Numbers of the real tokens, row by row, and the gradient of a sum of them in which each counts otherwise."""
    ids, positions, owners = batch
    actions = (owners >= 0) & (positions >= 10)
    net.zero_grad()
    if hasattr(net, "heads"):
        outputs = net(Tokens(ids, positions, actions, owners, 1), False)
        numbers = torch.cat(
            [first.flatten(2) if first.dim() == 3 else first[..., None] for first, _ in outputs.values()], -1
        )
    else:
        numbers = net(ids, positions, actions, owners, 1.0, 1)[0][..., None]
    numbers = numbers * actions[..., None]
    (numbers * torch.sin(positions.float() + owners)[..., None]).sum().backward()
    gradients = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
    return numbers[owners >= 0].detach(), torch.cat(gradients)


def gaps(net: Any, rows: Sequence[Tensor]) -> tuple[float, float]:
    """Largest gap of numbers, and that of gradients against their size: padded rows against those behind one another.

    Where the network cannot read by rows, it reads the same padded rows twice.
    """
    numbers, gradient = said(net, padded(rows))
    layouts = [padded, packed] if net.try_rows(torch.device("cpu")) else [padded]
    others = [said(net, layout(rows)) for layout in layouts]
    assert gradient.norm() > 1e-3
    return (
        max(float((other - numbers).abs().max()) for other, _ in others),
        max(float((other - gradient).norm() / gradient.norm()) for _, other in others),
    )
