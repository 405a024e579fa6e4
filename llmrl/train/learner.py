"""A network with its optimiser, on however many ranks: how it reads rows, and one optimiser step on them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llmrl.batch import Batch, balance_across_ranks, collate, inseparable, share_prompts
from llmrl.columns import filled_by
from llmrl.critics.language_model import vocabulary_of
from llmrl.errors import RecipeError
from llmrl.ops.logprobs import pieces
from llmrl.protocols import Forward, Loss, Update
from llmrl.recipe import TrainOptions
from llmrl.samples import Array, Sample
from llmrl.train import network
from llmrl.train.parallel import gather, zero_stage

PEAKS = ("peak_logprobs", "peak_ids", "other_logprobs")
"""Fields of `Forward` about the likeliest tokens, which are computed where they are asked for."""
_Sum = tuple[str, str]
"""Name of a sum's divisor, "" where it is no mean, and its own."""
_LEARNED, _WEIGHT = "tokens that learned", "weight of the tokens"
# On a CPU what is between two matrix products then stays in its caches, and rows of unlike lengths meet less padding:
# benchmarks/cpu.py micro-batch
_TOKENS_ON_CPU, _TOKENS = 2048, 16384


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """A part of a rank's share of the samples, which goes through the model at once."""

    indices: Sequence[int]  # of the rows; none on a rank that only takes part in a collective pass
    batch: Batch
    chunks: int  # pieces in which the logits of a vocabulary are computed, the same on every rank
    last: bool  # gradients are summed over the ranks after this one


@dataclass(frozen=True, slots=True)
class OptimStep:
    """The result of an optimiser step, and the model that it changed."""

    model: str
    metrics: Mapping[str, float]
    applied: bool  # False: the loss or the gradient was not finite, and nothing changed
    tokens: int  # real ones, over all ranks
    slots: int  # computed ones, padding included


@dataclass(frozen=True, slots=True)
class Gradient:
    """The gradient of an update, and what it asks of each token."""

    weights: Mapping[str, Tensor]  # of the trained weights, by name; before clipping
    pushes: Sequence[Array]  # of each row, (T,): minus the slope of the loss in the token's log-probability


Watch = Callable[[MicroBatch, Forward], None]
"""Sees a micro-batch and what the model gives for it, before the loss does."""


def _go_on() -> None:
    """Go on with the next micro-batch."""


class Learner(ABC):
    """Base of policy and critic. A subclass defines the forward pass and the weights of the terms."""

    check: Callable[[], None] = staticmethod(_go_on)  # called before each micro-batch, on every rank; may raise

    def __init__(self, net: network.Network, accelerator: Any, options: TrainOptions) -> None:
        self._hold(net, accelerator, options)
        trained = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            trained,
            lr=options.learning_rate,
            betas=(options.adam_beta1, options.adam_beta2),
            weight_decay=options.weight_decay,
        )
        self.module, self.optimizer = accelerator.prepare(net, optimizer)
        self.deepspeed = self.module if zero_stage(accelerator) is not None else None  # DeepSpeed's
        if self.deepspeed is not None and hasattr(self.deepspeed.optimizer, "check_grad_overflow"):
            self.deepspeed.optimizer.check_grad_overflow = True  # ZeRO 1 and 2 would apply a NaN in float32

    def _hold(self, net: network.Network, accelerator: Any, options: TrainOptions) -> None:
        """Keep what forward passes need, for a trained or a frozen model."""
        self.options = options
        self.accelerator = accelerator
        self.sharded = zero_stage(accelerator) == 3
        self._budget = options.tokens_per_device or (_TOKENS_ON_CPU if accelerator.device.type == "cpu" else _TOKENS)
        self.vocabulary = vocabulary_of(network.plain_model(net.model).config)

    @property
    def net(self) -> Any:
        """The network without what Accelerate put around it."""
        return self.accelerator.unwrap_model(self.module)

    @cached_property
    def pack(self) -> bool:
        """True if rows stand behind one another, without padding. Collective the first time: networks are tried."""
        if self.options.packing is False:
            return False
        with self.accelerator.autocast():
            by_rows = [net.try_rows(self.accelerator.device) for net in self.nets]
        return self.options.packing is True or all(by_rows) or network.packs(self.net.model)

    @property
    def nets(self) -> Sequence[network.Network]:
        """The networks that read batches."""
        return [self.net]

    @abstractmethod
    def forward(self, batch: Batch, chunks: int, *, entropy_grad: bool = False, peaks: bool = False) -> Forward:
        """Run the network on a batch; `chunks` is the number of pieces in which logits of a vocabulary are computed.

        A policy gives `PEAKS` only with `peaks`.
        """

    @abstractmethod
    def weights(self, batch: Batch) -> Tensor:
        """(B, T): how much each of its terms counts."""

    def stepped(self) -> None:  # noqa: B027 (most have nothing to do)
        """Act on an optimiser step that has changed the network, on every rank."""

    def read(self, rows: Sequence[Sample], names: Sequence[str]) -> list[dict[str, Array]]:
        """Forward pass over the rows: of each the named fields of `Forward`, a number per token; on every rank."""
        mine: list[tuple[Sequence[int], dict[str, Array]]] = []
        peaks = not set(PEAKS).isdisjoint(names)
        self.module.eval()  # LoRA may have dropout
        with torch.no_grad():
            for work in self._micro_batches(rows, [[i] for i in range(len(rows))]):
                forward = self.forward(work.batch, work.chunks, peaks=peaks)
                real = work.batch.sample_ids >= 0  # row by row, so that the rows stand behind one another
                mine.append((work.indices, {name: getattr(forward, name)[real].cpu().numpy() for name in names}))
        columns: list[dict[str, Array]] = [{} for _ in rows]
        for indices, flat in gather(mine, self.accelerator.num_processes):
            ends = np.cumsum([len(rows[j].token_ids) for j in indices])
            for name in names if indices else ():
                for j, column in zip(indices, np.split(flat[name], ends[:-1]), strict=True):
                    columns[j][name] = column
        return columns

    def fit(self, rows: Sequence[Sample], update: Update, scale: float, rate: float) -> OptimStep:
        """Make an optimiser step on `sum(terms * weights) * scale` over the samples of all ranks."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        totals, tokens, slots = self._accumulate(rows, update, scale)
        norm, applied = self._step()
        if applied:
            self.stepped()
        metrics = self._mean(totals, tokens, slots) | {"grad_norm": norm, "learning_rate": rate}
        tokens, slots = int(metrics.pop("tokens")), int(metrics.pop("slots"))
        return OptimStep(update.model, metrics, applied, tokens, slots)

    def gradient(self, rows: Sequence[Sample], update: Update) -> Gradient:
        """The gradient of an update over all rows at once, at the weights as they are; nothing changes.

        Raises:
            RecipeError: DeepSpeed holds the gradients.
        """
        if self.deepspeed is not None:
            raise RecipeError(
                "gradients are DeepSpeed's under DeepSpeed; start it without, or under recipes/accelerate/cpu"
            )
        pushes = [np.zeros(len(row.token_ids), np.float32) for row in rows]

        def watch(work: MicroBatch, forward: Forward) -> None:
            for name in ("logprobs", "kept_logprobs"):
                numbers = forward.columns.get(name)
                if numbers is not None and numbers.requires_grad:
                    numbers.register_hook(partial(self._keep_push, work, pushes))

        self._accumulate(rows, update, 1.0, watch)
        named = self.net.named_parameters()
        weights = {name: weight.grad.detach().clone() for name, weight in named if weight.grad is not None}
        self.optimizer.zero_grad()
        joined = torch.from_numpy(np.concatenate([*pushes, np.zeros(0, np.float32)])).to(self.accelerator.device)
        whole = self.accelerator.reduce(joined, "sum").cpu().numpy()  # each rank has its own rows
        ends = np.cumsum([len(push) for push in pushes])
        return Gradient(weights, np.split(whole, ends)[:-1])

    def _keep_push(self, work: MicroBatch, pushes: Sequence[Array], slope: Tensor) -> None:
        """Add to each row of a micro-batch how much a rise of its log-probabilities lowers the loss."""
        flat = -slope[work.batch.sample_ids >= 0].float().cpu().numpy() / self.accelerator.num_processes
        ends = np.cumsum([len(pushes[i]) for i in work.indices])
        for i, push in zip(work.indices, np.split(flat, ends[:-1]) if len(ends) else (), strict=True):
            pushes[i] += push

    def _accumulate(
        self, rows: Sequence[Sample], update: Update, scale: float, watch: Watch | None = None
    ) -> tuple[dict[_Sum, Tensor], int, int]:
        """Add up the gradient of `sum(terms * weights) * scale`; the sums for its metrics, tokens and slots."""
        self.module.train()
        totals: dict[_Sum, Tensor] = {}
        tokens = slots = 0
        for work in self._micro_batches(rows, inseparable(rows, update.keep_groups)):
            batch = work.batch
            with nullcontext() if work.last or self.deepspeed is not None else self.accelerator.no_sync(self.module):
                asked = {"entropy_grad": update.entropy_grad, "peaks": update.peaks}
                forward = self.forward(batch, work.chunks, **asked)
                if watch is not None:
                    watch(work, forward)
                loss = update.loss(forward, batch)
                weights = self.weights(batch)
                total = (loss.terms * weights).sum() * scale
                # A term that is not finite may still have a finite gradient, at weight 0 say: then make it show
                total = total * (total.detach() * 0.0 + 1.0)
                # Accelerate and DeepSpeed average over ranks; weights have averaged already
                self._backward(total * self.accelerator.num_processes, work.last)
            _add(totals, total, loss, weights)
            tokens += sum(len(rows[j].token_ids) for j in work.indices)
            slots += batch.token_ids.numel() if work.indices else 0
        return totals, tokens, slots

    def _micro_batches(self, rows: Sequence[Sample], together: Sequence[Sequence[int]]) -> Iterator[MicroBatch]:
        """This rank's share, each part made when the one before it was computed."""
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        lengths, actions = [len(row.token_ids) for row in rows], [row.actions for row in rows]
        pictured = any(row.images for row in rows)
        if pictured and self.sharded:
            raise RecipeError("pictures under ZeRO-3 are not supported; expected ZeRO-2, or messages without pictures")
        pack = self.pack and not pictured  # models of pictures count positions by rows
        if pack and self.net.by_rows:
            together, lengths = share_prompts(rows, together, self._budget, ranks)
        shares = balance_across_ranks(lengths, together, ranks, self._budget, pack)
        for i, indices in enumerate(shares[rank]):
            self.check()
            most = max(sum(actions[j] for j in shard[i]) for shard in shares)
            chunks = pieces(most, self.vocabulary, self.options.logits_chunk_mb)
            share = [rows[j] for j in indices] or [_blank(min(rows, key=lambda row: len(row.token_ids)))]
            batch = collate(share, pack, self.accelerator.device)
            yield MicroBatch(indices, batch, chunks, last=i == len(shares[rank]) - 1)

    def _backward(self, loss: Tensor, last: bool) -> None:
        if self.deepspeed is None:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self.deepspeed.set_gradient_accumulation_boundary(is_boundary=last)
            self.deepspeed.backward(loss)

    def _step(self) -> tuple[float, bool]:
        """The norm of the gradient before clipping, and whether it was finite and hence applied."""
        if self.deepspeed is not None:
            self.deepspeed.step()
            applied = bool(self.deepspeed.was_step_applied())
            return float(self.deepspeed.get_global_grad_norm() or 0.0) if applied else math.nan, applied
        norm = float(nn.utils.clip_grad_norm_(self.module.parameters(), self.options.max_grad_norm))
        if math.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad()
        return norm, math.isfinite(norm)

    def _mean(self, totals: Mapping[_Sum, Tensor], tokens: int, slots: int) -> dict[str, float]:
        """Sums over all ranks, each divided by what it is a mean over."""
        names = sorted(totals)
        numbers = torch.stack([totals[name] for name in names]).double().cpu()
        numbers = torch.cat([numbers, torch.tensor([tokens, slots], dtype=torch.float64)])
        if self.accelerator.num_processes > 1:
            numbers = self.accelerator.reduce(numbers.to(self.accelerator.device), reduction="sum").cpu()
        summed = dict(zip([*names, ("", "tokens"), ("", "slots")], numbers.tolist(), strict=True))
        divisors = {"": 1.0} | {over: summed.pop(("", over)) or 1.0 for over in (_LEARNED, _WEIGHT)}
        return {name: value / divisors[over] for (over, name), value in summed.items()}


def _blank(row: Sample) -> Sample:
    """A row that asks nothing and weighs nothing, for a rank with no work in a collective pass."""
    nothing = row.with_columns(turn_ids=np.full(len(row.token_ids), -1))
    return nothing.assign(**dict.fromkeys(filled_by("credit").keys() & row.columns.keys(), 0.0))


def _add(totals: dict[_Sum, Tensor], total: Tensor, loss: Loss, weights: Tensor) -> None:
    """Add a micro-batch to the sums of its update."""
    learns = weights > 0
    sums = {("", "loss"): total.detach(), ("", _LEARNED): learns.sum(), ("", _WEIGHT): weights.sum()}
    sums |= {(_LEARNED, name): (value.detach() * learns).sum() for name, value in loss.metrics.items()}
    sums |= {(_WEIGHT, name): (value.detach() * weights).sum() for name, value in loss.means.items()}
    for name, value in sums.items():
        totals[name] = totals.get(name, torch.zeros((), dtype=torch.float64, device=value.device)) + value
