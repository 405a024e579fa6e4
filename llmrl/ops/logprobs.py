"""Log-probabilities and entropy of chosen tokens: the one place that shifts by a token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True, slots=True)
class Chosen:
    """The tokens to be scored, by where they stand; each is predicted by the position before it."""

    rows: Tensor  # (N,) int64
    columns: Tensor  # (N,) int64, of the token itself, at least 1
    shape: tuple[int, int]  # (B, T)

    def predicting(self, states: Tensor) -> Tensor:
        """(N, H) of (B, T, H): the states whose head output is about the tokens."""
        return states[self.rows, self.columns - 1]

    def tokens(self, token_ids: Tensor) -> Tensor:
        """(N,) of (B, T): the tokens themselves."""
        return token_ids[self.rows, self.columns]

    def scatter(self, numbers: Tensor) -> Tensor:
        """(B, T) of (N,): entry t is about token t; 0.0 elsewhere."""
        return numbers.new_zeros(self.shape).index_put((self.rows, self.columns), numbers)


def predicting(action_mask: Tensor, sample_ids: Tensor | None = None) -> Chosen:
    """The action tokens that something before them predicts.

    Args:
        action_mask: (B, T) bool.
        sample_ids: (B, T) int64, where rows are packed. The first token of a sample follows another sample's last,
            which says nothing about it: it is never scored. None: one sample a row.
    """
    wanted = action_mask.clone()
    wanted[:, 0] = False
    if sample_ids is not None:
        wanted[:, 1:] &= sample_ids[:, 1:] == sample_ids[:, :-1]
    rows, columns = wanted.nonzero(as_tuple=True)
    return Chosen(rows, columns, (action_mask.shape[0], action_mask.shape[1]))


def pieces(rows: int, vocabulary: int, chunk_mb: float) -> int:
    """How many pieces `token_logprobs` works in, so that the float32 logits of a piece fit in `chunk_mb` MiB."""
    fitting = max(1, int(chunk_mb * 2**20 // (4 * vocabulary)))
    return max(1, ceil(rows / fitting))


def token_logprobs(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    targets: Tensor,
    temperature: float = 1.0,
    chunk_mb: float = 256,
    *,
    entropy_grad: bool = False,
    chunks: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and the entropy of its distribution, without all logits ever being in memory.

    Args:
        hidden: (N, H) states of the positions that predict the targets.
        head: (n, H) to (n, V) logits. A module is called, never unpacked, so that ZeRO-3 gathers its weights.
        targets: (N,) int64.
        temperature: divides the logits; above 0.
        chunk_mb: MiB of float32 logits in one piece. Each piece is computed again in the backward pass.
        entropy_grad: whether the entropy carries a gradient.
        chunks: how many pieces; None chooses. Under ZeRO-3 a call of the head is a collective: all ranks need one
            number, the largest of their `pieces`.
    Returns:
        (N,) log-probabilities with gradient and (N,) entropies in nats, float32 (float64 where the logits are).
    """
    if chunks is None:
        chunks = pieces(len(hidden), _vocabulary(head, hidden), chunk_mb)

    def score(states: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        return _score(head(states), wanted, temperature, entropy_grad)

    results = []
    for states, wanted in zip(hidden.tensor_split(chunks), targets.tensor_split(chunks), strict=True):
        if torch.is_grad_enabled():
            results.append(checkpoint(score, states, wanted, use_reentrant=False))
        else:
            results.append(score(states, wanted))
    return torch.cat([r[0] for r in results]), torch.cat([r[1] for r in results])


def _vocabulary(head: Callable[[Tensor], Tensor], hidden: Tensor) -> int:
    known = getattr(head, "out_features", None)
    if isinstance(known, int):
        return known
    with torch.no_grad():
        return head(hidden[:0]).shape[-1]


def _score(logits: Tensor, targets: Tensor, temperature: float, entropy_grad: bool) -> tuple[Tensor, Tensor]:
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logprobs = torch.log_softmax(wide / temperature if temperature != 1.0 else wide, dim=-1)
    chosen = logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    with torch.set_grad_enabled(entropy_grad and torch.is_grad_enabled()):
        # A token that a model rules out has logit -inf, and 0 * -inf is not a number.
        finite = logprobs.clamp(min=torch.finfo(logprobs.dtype).min)
        entropy = -(finite.exp() * finite).sum(-1)
    return chosen, entropy
