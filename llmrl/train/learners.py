"""The trained models of a run: what they think of a step, and how they learn from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from llmrl.batch import minibatches
from llmrl.errors import RecipeError
from llmrl.protocols import Column, Update
from llmrl.recipe import Recipe, TrainOptions
from llmrl.train import critic, network
from llmrl.train.learner import Learner, OptimStep
from llmrl.train.parts import FinishedStep
from llmrl.train.policy import Policy, Reference
from llmrl.types import Sample


def learning_rate(options: TrainOptions, step: int) -> float:
    """The rate of loop step `step`: linear warm-up, then constant, or linear or cosine to 0 at `max_steps`."""
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    done = (step - options.warmup_steps) / max(1, options.max_steps - options.warmup_steps)
    shape = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}
    return options.learning_rate * shape[options.lr_scheduler_type]


CRITIC: frozenset[Column] = frozenset({"values", "next_values"})
"""Columns that a critic fills."""
OLD: Mapping[Column, str] = {
    "old_logprobs": "logprobs",
    "old_kept_logprobs": "kept_logprobs",
    "old_entropy": "entropy",
}
"""Columns that the policy fills, with the fields of its forward pass."""


class Learners:
    """The policy, its reference and a critic where they are needed, by name."""

    def __init__(self, recipe: Recipe, accelerator: Any, needs: Iterable[Column]) -> None:
        needs = frozenset(needs)
        policy = network.load(recipe.model, checkpointing=recipe.train.gradient_checkpointing)
        frozen = None
        if "ref_logprobs" in needs and not recipe.model.use_peft:  # LoRA's reference is the model below the adapters
            frozen = network.TokenScorer(network.load(recipe.model, trained=False))
        self.policy = Policy(network.TokenScorer(policy), accelerator, recipe.train, recipe.rollout.temperature)
        self.reference = Reference(frozen, self.policy, recipe.model) if frozen is not None else None
        self._named: dict[str, Learner] = {"policy": self.policy}
        if needs & CRITIC:
            self._named["critic"] = critic.load(recipe, accelerator)

    def __getitem__(self, name: str) -> Learner:
        if name not in self._named:
            raise RecipeError(
                f"algorithm: it trains the model {name!r}, which this run does not have; a critic is built for an "
                "algorithm that needs() the column values or next_values"
            )
        return self._named[name]

    def annotate(self, rows: Sequence[Sample], needs: Iterable[Column]) -> list[Sample]:
        """The rows with the columns that the algorithm asked for, one forward pass each."""
        rows, needs = list(rows), frozenset(needs)
        if not rows:
            return rows
        columns: list[dict[str, list[float]]] = [{} for _ in rows]
        if old := sorted(needs & OLD.keys()):
            if "old_kept_logprobs" in old:
                _require_kept(rows)
            for column, found in zip(columns, self.policy.read(rows, [OLD[name] for name in old]), strict=True):
                column.update({name: found[OLD[name]] for name in old})
        if "ref_logprobs" in needs:
            asked = self.reference.logprobs(rows) if self.reference else self.policy.logprobs(rows, adapters=False)
            _add(columns, "ref_logprobs", asked)
        if critics := sorted(needs & CRITIC):
            columns = [a | b for a, b in zip(columns, self["critic"].read(rows, critics), strict=True)]
        return [row.assign(**found) for row, found in zip(rows, columns, strict=True)]

    def fit(
        self, rows: Sequence[Sample], update: Update, *, seed: int, rate: float
    ) -> Iterator[tuple[list[Sample], OptimStep]]:
        """All optimiser steps of one update, with the rows each was made on."""
        if not rows:  # nothing of this step teaches
            return
        parts = minibatches(
            rows, epochs=update.epochs, parts=update.minibatches, keep_groups=update.keep_groups, seed=seed
        )
        for part in parts:
            yield part, self[update.model].fit(part, update, scale=len(rows) / len(part), rate=rate)

    def learning_rate(self, step: int, model: str) -> float:
        """The rate of a model in a loop step; each has its own peak, and all have one schedule."""
        return learning_rate(self[model].options, step)

    def follow(self, step: int) -> None:
        """Let a reference that moves take its share of the policy, after loop step `step`."""
        if self.reference is not None:
            self.reference.follow(self.policy, step)

    def after_step(self, finished: FinishedStep) -> None:
        self.follow(finished.step)


def _add(columns: Sequence[dict[str, list[float]]], name: str, found: Sequence[list[float]]) -> None:
    for row, numbers in zip(columns, found, strict=True):
        row[name] = numbers


def _require_kept(rows: Sequence[Sample]) -> None:
    for row in rows:
        if row.support_ids is None:
            raise RecipeError(
                f"group {row.group}, episode {row.episode}: the algorithm needs the tokens among which each was "
                "sampled, and the engine did not return them; set engine.return_kept_ids=true and rollout.top_p below 1"
            )
