"""Log-probabilities and entropy of chosen tokens: the one place that shifts by a token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

_CACHED = 2**18  # float32 numbers that a CPU holds in the cache of a core, with as many beside them
_RULED_OUT = -1e6  # a log-probability whose exp is 0; a token that a model rules out has -inf, and 0 * -inf is NaN


@dataclass(frozen=True, slots=True)
class Kept:
    """For each of N tokens, the ids among which it was sampled."""

    ids: Tensor  # (K,) int64, one token behind the other
    counts: Tensor  # (N,) int64, at least 1 each; they sum to K

    def split(self, chunks: int) -> list[Kept]:
        """The same in pieces of tokens, as `Tensor.tensor_split` cuts them."""
        counts = self.counts.tensor_split(chunks)
        ids = self.ids.split([int(piece.sum()) for piece in counts])
        return [Kept(i, c) for i, c in zip(ids, counts, strict=True)]


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

    def kept(self, support_ids: Tensor, support_counts: Tensor) -> Kept:
        """Select, from (K,) ids for (B, T) counts, the ids of the chosen tokens."""
        ends = support_counts.flatten().cumsum(0).view(self.shape)
        counts = support_counts[self.rows, self.columns]
        before = counts.cumsum(0) - counts  # of each token's ids among those that are taken
        shift = ends[self.rows, self.columns] - counts - before
        places = torch.repeat_interleave(shift, counts) + torch.arange(int(counts.sum()), device=counts.device)
        return Kept(support_ids[places], counts)

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
    """Number of pieces for `token_logprobs`, so that the float32 logits of a piece fit in `chunk_mb` MiB."""
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
        chunk_mb: MiB of float32 logits in one piece. Of several pieces all but the last are computed again in the
            backward pass. Beside a piece's logits nothing of their size exists but their gradient.
        entropy_grad: whether the entropy carries a gradient.
        chunks: how many pieces; None chooses. Under ZeRO-3 a call of the head is a collective: all ranks need one
            number, the largest of their `pieces`.
    Returns:
        (N,) log-probabilities with gradient and (N,) entropies in nats, float32 (float64 where the logits are).
    """
    if chunks is None:
        chunks = pieces(len(hidden), _vocabulary(head, hidden), chunk_mb)

    def score(states: Tensor, wanted: Tensor, known: list[Tensor]) -> tuple[Tensor, ...]:
        chosen, entropy = _Scored.apply(head(states), wanted, temperature, known)  # type: ignore[no-untyped-call]
        return chosen, entropy if entropy_grad else entropy.detach()

    parts = zip(hidden.tensor_split(chunks), targets.tensor_split(chunks), strict=True)
    logprobs, entropy = _in_pieces(score, ((states, wanted, []) for states, wanted in parts))
    return logprobs, entropy


def kept_logprobs(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    targets: Tensor,
    kept: Kept,
    temperature: float = 1.0,
    *,
    entropy_grad: bool = False,
    chunks: int = 1,
) -> tuple[Tensor, ...]:
    """Outputs of `token_logprobs`, and the same two of the distribution over the kept tokens alone.

    The softmax is renormalised over each token's own set, so `exp(whole - kept)` is the probability that the whole
    softmax gives to the set. Arguments as there; `kept` holds the sets of the targets, each with the target in it.

    Returns:
        (N,) log-probabilities and entropies of the whole softmax, then (N,) of the one that is left; the two
        log-probabilities with gradient, the two entropies with one if `entropy_grad`.
    """

    def score(states: Tensor, wanted: Tensor, ids: Tensor, counts: Tensor) -> tuple[Tensor, ...]:
        chosen, entropy, everything = _score(head(states), wanted, temperature, entropy_grad)
        mass, left = _over(Kept(ids, counts), everything, entropy_grad)
        return chosen, entropy, chosen - mass, left

    parts = zip(hidden.tensor_split(chunks), targets.tensor_split(chunks), kept.split(chunks), strict=True)
    return _in_pieces(score, ((states, wanted, own.ids, own.counts) for states, wanted, own in parts))


def peak_logprobs(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    targets: Tensor,
    others: Tensor,
    temperature: float = 1.0,
    *,
    entropy_grad: bool = False,
    chunks: int = 1,
) -> tuple[Tensor, ...]:
    """Outputs of `token_logprobs`, and the likeliest token of each distribution.

    Arguments as there; `others` are (N,) int64 second ids.

    Returns:
        (N,) log-probabilities and entropies; then of the likeliest tokens the log-probabilities, with gradient, and
        the ids, of equal ones an arbitrary one; then the log-probabilities of `others`, with gradient.
    """

    def score(states: Tensor, wanted: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        chosen, entropy, everything = _score(head(states), wanted, temperature, entropy_grad)
        peak, ids = everything.max(-1)
        return chosen, entropy, peak, ids, everything.gather(-1, second.unsqueeze(-1)).squeeze(-1)

    parts = (hidden.tensor_split(chunks), targets.tensor_split(chunks), others.tensor_split(chunks))
    return _in_pieces(score, zip(*parts, strict=True))


def chosen_numbers(
    hidden: Tensor, head: Callable[[Tensor], Tensor], targets: Tensor, chunks: int = 1
) -> tuple[Tensor, Tensor]:
    """Number that a head of the vocabulary gives each target, and the target's log-softmax over all its numbers.

    Arguments as for `token_logprobs`.

    Returns:
        (N,) numbers and (N,) log-probabilities, both with gradient, float32 (float64 where the numbers are).
    """

    def score(states: Tensor, wanted: Tensor) -> tuple[Tensor, ...]:
        numbers = head(states)
        wide = numbers.to(torch.promote_types(numbers.dtype, torch.float32))
        chosen = wide.gather(-1, wanted.unsqueeze(-1)).squeeze(-1)
        return chosen, chosen - wide.logsumexp(-1)

    numbers, logprobs = _in_pieces(score, zip(hidden.tensor_split(chunks), targets.tensor_split(chunks), strict=True))
    return numbers, logprobs


def _in_pieces(score: Callable[..., tuple[Tensor, ...]], parts: Iterable[tuple[Any, ...]]) -> tuple[Tensor, ...]:
    """Outputs of `score` for all parts; the backward pass begins with the last, and computes all others again."""
    *before, last = parts
    again = torch.is_grad_enabled()
    computed = [checkpoint(score, *part, use_reentrant=False) if again else score(*part) for part in before]
    computed.append(score(*last))
    return tuple(torch.cat(column) for column in zip(*computed, strict=True))


def _over(kept: Kept, logprobs: Tensor, entropy_grad: bool) -> tuple[Tensor, Tensor]:
    """(n,) the log of the probability that (n, V) `logprobs` give to each set, and the entropy within it."""
    tokens = len(kept.counts)
    owner = torch.repeat_interleave(torch.arange(tokens, device=logprobs.device), kept.counts)
    own = logprobs[owner, kept.ids]
    highest = own.detach().new_full((tokens,), -torch.inf).scatter_reduce(0, owner, own.detach(), "amax")
    mass = highest + own.new_zeros(tokens).index_add(0, owner, (own - highest[owner]).exp()).log()
    with torch.set_grad_enabled(entropy_grad and torch.is_grad_enabled()):
        inside = (own - mass[owner]).clamp(min=torch.finfo(own.dtype).min)
        entropy = -own.new_zeros(tokens).index_add(0, owner, inside.exp() * inside)
    return mass, entropy


class _Scored(torch.autograd.Function):
    """(n,) log-probability of each target and entropy, of (n, V) logits that are read once, a few rows at a time.

    On a CPU those rows stay in its caches. Sums are float32, float64 where the logits are, whatever their dtype.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, temperature: float, known: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """`known` is filled the first time; where a piece is computed again, nothing but the logits is."""
        if not known:
            known += _sums(logits, targets, temperature)
        chosen, entropy, mass = known
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, targets, mass, entropy)
        ctx.temperature = temperature
        return chosen.clone(), entropy.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_chosen: Tensor | None, of_entropy: Tensor | None) -> tuple[Tensor, None, None, None]:
        logits, targets, mass, entropy = ctx.saved_tensors
        of_chosen = torch.zeros_like(mass) if of_chosen is None else of_chosen
        gradient = torch.empty_like(logits)
        for rows in _blocks(logits):
            logprobs = (logits[rows].to(mass.dtype) / ctx.temperature).sub_(mass[rows, None])
            weights = logprobs.exp()
            slope = -of_chosen[rows, None]
            if of_entropy is not None:
                surprise = logprobs.clamp_(min=_RULED_OUT).add_(entropy[rows, None])
                slope = surprise.mul_(-of_entropy[rows, None]).add_(slope)
            weights.mul_(slope).scatter_add_(-1, targets[rows, None], of_chosen[rows, None])
            gradient[rows] = weights.div_(ctx.temperature)
        return gradient, None, None, None


def _sums(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """(n,) log-probabilities of the targets, entropies, and logarithms of what a softmax divides by."""
    kind = torch.promote_types(logits.dtype, torch.float32)
    chosen, entropy, mass = (logits.new_empty(len(logits), dtype=kind) for _ in range(3))
    for rows in _blocks(logits):
        scaled = logits[rows].to(kind) / temperature
        highest = scaled.amax(-1, keepdim=True)
        shifted = scaled.sub_(highest)
        own = shifted.gather(-1, targets[rows].unsqueeze(-1)).squeeze(-1)
        weights = shifted.clamp_(min=_RULED_OUT).exp()
        total = weights.sum(-1)
        chosen[rows] = own - total.log()
        entropy[rows] = total.log() - weights.mul_(shifted).sum(-1) / total
        mass[rows] = highest.squeeze(-1) + total.log()
    return chosen, entropy, mass


def _blocks(logits: Tensor) -> Iterator[slice]:
    """Rows of (n, V) logits, as many at a time as fit in a cache of the processor; all on other devices."""
    rows = max(1, _CACHED // logits.shape[-1]) if logits.device.type == "cpu" else max(1, len(logits))
    return (slice(start, start + rows) for start in range(0, len(logits), rows))


def _vocabulary(head: Callable[[Tensor], Tensor], hidden: Tensor) -> int:
    known = getattr(head, "out_features", None)
    if isinstance(known, int):
        return known
    with torch.no_grad():
        return head(hidden[:0]).shape[-1]


def _score(logits: Tensor, targets: Tensor, temperature: float, entropy_grad: bool) -> tuple[Tensor, Tensor, Tensor]:
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logprobs = torch.log_softmax(wide / temperature if temperature != 1.0 else wide, dim=-1)
    chosen = logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    with torch.set_grad_enabled(entropy_grad and torch.is_grad_enabled()):
        # A token that a model rules out has logit -inf, and 0 * -inf is not a number.
        finite = logprobs.clamp(min=torch.finfo(logprobs.dtype).min)
        entropy = -(finite.exp() * finite).sum(-1)
    return chosen, entropy, logprobs
