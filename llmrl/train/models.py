"""The trained models: what they think of a step, and how they learn from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from llmrl.batch import Batch, collate, deal, minibatches, units
from llmrl.errors import RecipeError
from llmrl.ops.logprobs import pieces
from llmrl.protocols import Column, Forward, Update
from llmrl.recipe import Recipe, TrainOptions
from llmrl.train import network
from llmrl.train.parallel import gather, zero_stage
from llmrl.types import Sample

_LEARNED = "tokens that learned"


@dataclass(frozen=True, slots=True)
class Fit:
    """What one optimiser step did."""

    metrics: Mapping[str, float]
    applied: bool  # False: the loss or the gradient was not finite, and nothing changed
    tokens: int  # real ones, over all ranks
    slots: int  # computed ones, padding included


def learning_rate(options: TrainOptions, step: int) -> float:
    """The rate of loop step `step`: linear warm-up, then constant, or linear or cosine to 0 at `max_steps`."""
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    done = (step - options.warmup_steps) / max(1, options.max_steps - options.warmup_steps)
    shape = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}
    return options.learning_rate * shape[options.lr_scheduler_type]


class Model:
    """One network with its optimiser, on however many ranks, sharded or not."""

    def __init__(self, net: network.TokenScorer, accelerator: Any, options: TrainOptions, temperature: float) -> None:
        self.options = options
        self.temperature = temperature
        self.accelerator = accelerator
        self.pack = network.packs(net.model) if options.packing is None else options.packing
        self.vocabulary = int(network.plain_model(net.model).config.vocab_size)
        self._dtype = str(next(net.parameters()).dtype).removeprefix("torch.")
        trained = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            trained,
            lr=options.learning_rate,
            betas=(options.adam_beta1, options.adam_beta2),
            weight_decay=options.weight_decay,
        )
        self.module, self.optimizer = accelerator.prepare(net, optimizer)
        self.sharded = zero_stage(accelerator) == 3
        self.engine = self.module if zero_stage(accelerator) is not None else None  # DeepSpeed's
        if self.engine is not None and hasattr(self.engine.optimizer, "check_grad_overflow"):
            self.engine.optimizer.check_grad_overflow = True  # ZeRO 1 and 2 would apply a NaN in float32

    @property
    def net(self) -> network.TokenScorer:
        """The network without what Accelerate put around it."""
        net: network.TokenScorer = self.accelerator.unwrap_model(self.module)
        return net

    @property
    def dtype(self) -> str:
        """Of the arithmetic: what the weights are, or bfloat16 under autocast."""
        return "bfloat16" if self.options.bf16 else self._dtype

    def stop_configs(self) -> tuple[Any, Any]:
        """Where the model says which tokens end a completion."""
        plain = network.plain_model(self.net.model)
        return plain.generation_config, plain.config

    def logprobs(self, rows: Sequence[Sample], *, adapters: bool = True) -> list[list[float]]:
        """Log-probabilities of each row's action tokens, 0.0 elsewhere, known to every rank.

        `adapters=False` asks the model below the LoRA adapters.
        """
        found: list[tuple[int, list[float]]] = []
        self.module.eval()  # LoRA may have dropout
        with torch.no_grad(), nullcontext() if adapters else self.net.model.disable_adapter():  # type: ignore[operator]
            for indices, batch, chunks in self._micro_batches(rows, [[i] for i in range(len(rows))]):
                logprobs = self._forward(batch, chunks).logprobs
                assert logprobs is not None
                found += zip(indices, _ragged(logprobs, batch, [rows[i] for i in indices]), strict=True)
        return [values for _, values in sorted(gather(found, self.accelerator.num_processes))]

    def fit(self, rows: Sequence[Sample], update: Update, scale: float, rate: float) -> Fit:
        """One optimiser step on `sum(terms * weights) * scale` over the rows, whichever rank computes which of them."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.module.train()
        totals: dict[str, Tensor] = {}
        tokens = slots = 0
        work = list(self._micro_batches(rows, units(rows, update.keep_groups)))
        for i, (indices, batch, chunks) in enumerate(work):
            last = i == len(work) - 1
            with nullcontext() if last or self.engine is not None else self.accelerator.no_sync(self.module):
                new = self._forward(batch, chunks)
                loss = update.loss(new, batch)
                total = (loss.terms * batch.weights).sum() * scale
                # A term that is not finite may still have a finite gradient, at weight 0 say: then make it show
                total = total * (total.detach() * 0.0 + 1.0)
                # Accelerate and DeepSpeed average over ranks; weights have averaged already
                self._backward(total * self.accelerator.num_processes, last)
            _add(totals, total, loss.metrics, batch)
            tokens += sum(len(rows[j].token_ids) for j in indices)
            slots += batch.token_ids.numel() if indices else 0
        norm, applied = self._step()
        metrics = self._mean(totals, tokens, slots) | {"grad_norm": norm, "learning_rate": rate}
        tokens, slots = int(metrics.pop("tokens")), int(metrics.pop("slots"))
        return Fit(metrics, applied, tokens, slots)

    def _micro_batches(
        self, rows: Sequence[Sample], together: Sequence[Sequence[int]]
    ) -> Iterator[tuple[list[int], Batch, int]]:
        """This rank's share: the indices of the rows, the batch, and in how many pieces its logits are computed."""
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        lengths = [len(row.token_ids) for row in rows]
        dealt = deal(lengths, together, ranks, self.options.tokens_per_device, self.pack)
        for i, indices in enumerate(dealt[rank]):
            actions = max(sum(rows[j].actions for j in hand[i]) for hand in dealt)
            chunks = pieces(actions, self.vocabulary, self.options.logits_chunk_mb)
            share = [rows[j] for j in indices] or [_blank(min(rows, key=lambda row: len(row.token_ids)))]
            yield indices, collate(share, self.pack, self.accelerator.device), chunks

    def _forward(self, batch: Batch, chunks: int) -> Forward:
        logprobs, entropy = self.module(
            batch.token_ids, batch.position_ids, batch.action_mask, batch.sample_ids, self.temperature, chunks
        )
        return Forward(logprobs=logprobs, entropy=entropy)

    def _backward(self, loss: Tensor, last: bool) -> None:
        if self.engine is None:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self.engine.set_gradient_accumulation_boundary(is_boundary=last)
            self.engine.backward(loss)

    def _step(self) -> tuple[float, bool]:
        """The norm of the gradient before clipping, and whether it was finite and hence applied."""
        if self.engine is not None:
            self.engine.step()
            applied = bool(self.engine.was_step_applied())
            return float(self.engine.get_global_grad_norm() or 0.0) if applied else math.nan, applied
        norm = float(nn.utils.clip_grad_norm_(self.module.parameters(), self.options.max_grad_norm))
        if math.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad()
        return norm, math.isfinite(norm)

    def _mean(self, totals: Mapping[str, Tensor], tokens: int, slots: int) -> dict[str, float]:
        """Sums over all ranks; metrics divided by the number of tokens that learned."""
        names = sorted(totals)
        numbers = torch.stack([totals[name] for name in names]).double().cpu()
        numbers = torch.cat([numbers, torch.tensor([tokens, slots], dtype=torch.float64)])
        if self.accelerator.num_processes > 1:
            numbers = self.accelerator.reduce(numbers.to(self.accelerator.device), reduction="sum").cpu()
        summed = dict(zip([*names, "tokens", "slots"], numbers.tolist(), strict=True))
        learned = summed.pop(_LEARNED)
        plain = ("loss", "tokens", "slots")
        return {name: value if name in plain else value / max(learned, 1.0) for name, value in summed.items()}


class Models:
    """The policy, its reference where one is needed, and whatever else an algorithm trains, by name."""

    def __init__(self, recipe: Recipe, accelerator: Any, needs: Iterable[Column]) -> None:
        needs = frozenset(needs)
        heat = recipe.rollout.temperature
        policy = network.load(recipe.model, checkpointing=recipe.train.gradient_checkpointing)
        frozen = None
        if "ref_logprobs" in needs and not recipe.model.use_peft:  # LoRA's reference is the model below the adapters
            frozen = network.TokenScorer(network.load(recipe.model, trained=False))
        self.policy = Model(network.TokenScorer(policy), accelerator, recipe.train, heat)
        self._reference = _Frozen(frozen, self.policy) if frozen is not None else None
        self._named = {"policy": self.policy}

    def __getitem__(self, name: str) -> Model:
        return self._named[name]

    def annotate(self, rows: Sequence[Sample], needs: Iterable[Column]) -> list[Sample]:
        """The rows with the columns that the algorithm asked for, one forward pass each."""
        rows = list(rows)
        for need in sorted(needs):
            if not rows:
                break
            if need == "old_logprobs":
                found = self.policy.logprobs(rows)
            elif need == "ref_logprobs":
                found = (
                    self._reference.logprobs(rows) if self._reference else self.policy.logprobs(rows, adapters=False)
                )
            else:
                raise RecipeError(
                    f"algorithm: the column {need} needs a model that no run has yet; expected old_ or ref_logprobs"
                )
            rows = [row.assign(**{need: values}) for row, values in zip(rows, found, strict=True)]
        return rows

    def fit(
        self, rows: Sequence[Sample], update: Update, *, seed: int, rate: float
    ) -> Iterator[tuple[list[Sample], Fit]]:
        """All optimiser steps of one update, with the rows each was made on."""
        if not rows:  # nothing of this step teaches
            return
        parts = minibatches(
            rows, epochs=update.epochs, parts=update.minibatches, keep_groups=update.keep_groups, seed=seed
        )
        for part in parts:
            yield part, self[update.model].fit(part, update, scale=len(rows) / len(part), rate=rate)


class _Frozen(Model):
    """A network that never learns; under ZeRO-3 it is sharded like the policy."""

    def __init__(self, net: network.TokenScorer, like: Model) -> None:
        self.options, self.temperature, self.accelerator = like.options, like.temperature, like.accelerator
        self.pack, self.vocabulary, self._dtype = like.pack, like.vocabulary, like._dtype
        net.eval()
        if like.sharded:
            import deepspeed

            config = {
                "train_micro_batch_size_per_gpu": 1,
                "zero_optimization": {"stage": 3},
                "bf16": {"enabled": self.options.bf16},
            }
            self.module = deepspeed.initialize(model=net, config=config)[0]
        else:
            self.module = net.to(self.accelerator.device)


def _blank(row: Sample) -> Sample:
    """A row that asks nothing and weighs nothing, for a rank with no work in a collective pass."""
    nothing = [False] * len(row.token_ids)
    return replace(row, action_mask=nothing, weights=None, value_weights=None, advantages=None, returns=None)


def _ragged(numbers: Tensor, batch: Batch, rows: Sequence[Sample]) -> list[list[float]]:
    """The (B, T) numbers of a batch, one list per row."""
    return [numbers[batch.sample_ids == i].tolist() for i in range(len(rows))]


def _add(totals: dict[str, Tensor], total: Tensor, metrics: Mapping[str, Tensor], batch: Batch) -> None:
    learns = batch.weights > 0
    sums = {"loss": total.detach(), _LEARNED: learns.sum()}
    sums |= {name: (value.detach() * learns).sum() for name, value in metrics.items()}
    for name, value in sums.items():
        totals[name] = totals.get(name, torch.zeros((), dtype=torch.float64, device=value.device)) + value
