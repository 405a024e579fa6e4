"""Bytes that a training step holds at once, counted over tensors without numbers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from llmrl.ops.logprobs import Chosen, pieces, token_logprobs

ROUNDS = 2
"""Optimiser steps that are traced: states of the optimiser are there from the first one on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatchShape:
    """The largest micro-batch of a run."""

    rows: int
    length: int  # tokens of a row, prompt and completions
    actions: int  # tokens of a row that the policy chose

    @property
    def tokens(self) -> int:
        """Tokens, padding included."""
        return self.rows * self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """Bytes of a model in training, on one device that holds all of it."""

    weights: int
    gradients: int
    optimiser: int
    logits: int  # of a piece, with the gradient
    peak: int  # of everything at once

    @property
    def activations(self) -> int:
        """Everything else at the peak: what the backward pass reads, and what exists for a moment."""
        return max(0, self.peak - self.weights - self.gradients - self.optimiser - self.logits)


class Held(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, and their most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._count(leaf)
        self.most = max(self.most, self.now)
        return made

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += self._sizes[key]
            weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)


def trace(
    make: Callable[[], tuple[Any, Any, Any]],
    shape: MicroBatchShape,
    *,
    vocabulary: int,
    chunk_mb: int,
    autocast: bool = False,
    micro_batches: int = 2,
) -> Traced:
    """Train a model that has no numbers on two steps, and count.

    Args:
        make: makes the model, its decoder and its output layer; its tensors hold no memory.
        shape: of the micro-batch.
        vocabulary: of the output layer; its logits are computed in pieces of `chunk_mb` MiB.
        autocast: to bfloat16.
        micro_batches: of an optimiser step, at most two of which are traced.
    """
    with FakeTensorMode(), Held() as held:
        model, decoder, head = make()
        model.train()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=1e-6, foreach=False)
        weights, held.most = held.now, 0
        batch = _batch(shape)
        for _ in range(ROUNDS):
            for _ in range(min(2, micro_batches)):
                with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
                    _loss(decoder, head, batch, shape, vocabulary, chunk_mb).backward()
            gradients = sum(p.grad.nbytes for p in trained if p.grad is not None)
            optimiser.step()
            optimiser.zero_grad()
        states = sum(t.nbytes for state in optimiser.state.values() for t in state.values() if isinstance(t, Tensor))
    logits = 0
    if vocabulary:
        scored = shape.rows * shape.actions
        logits = 2 * -(-scored // pieces(scored, vocabulary, chunk_mb)) * vocabulary * (2 if autocast else 4)
    return Traced(weights=weights, gradients=gradients, optimiser=states, logits=logits, peak=held.most)


def _batch(shape: MicroBatchShape) -> tuple[Tensor, Tensor, Chosen]:
    """Tokens, positions, and the last tokens of each row as those that were chosen."""
    ids = torch.ones(shape.rows, shape.length, dtype=torch.long)
    positions = torch.arange(shape.length).expand(shape.rows, -1)
    chosen = torch.zeros(shape.rows * shape.actions, dtype=torch.long)
    return ids, positions, Chosen(chosen, chosen + 1, (shape.rows, shape.length))


def _loss(
    decoder: nn.Module,
    head: Any,
    batch: tuple[Tensor, Tensor, Chosen],
    shape: MicroBatchShape,
    vocabulary: int,
    chunk_mb: int,
) -> Tensor:
    """A scalar over the chosen tokens: of their log-probabilities, or of a number each where there is no vocabulary."""
    ids, positions, chosen = batch
    states = decoder(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
    if not vocabulary:
        total: Tensor = head(states).float().sum()
        return total
    chunks = pieces(shape.rows * shape.actions, vocabulary, chunk_mb)
    logprobs, _ = token_logprobs(chosen.predicting(states), head, chosen.tokens(ids), chunks=chunks)
    return chosen.scatter(logprobs).sum()


def parameters_of(models: Sequence[Any]) -> int:
    """Number of parameters, each once however often it is used."""
    return sum({id(p): p.numel() for model in models for p in model.parameters()}.values())
