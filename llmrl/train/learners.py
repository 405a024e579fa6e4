"""The trained models of a run: what they think of a step, and how they learn from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmrl.batch import minibatches
from llmrl.columns import COLUMNS, Declared, Filler, filled_by
from llmrl.errors import RecipeError
from llmrl.plugins import did_you_mean
from llmrl.protocols import Column, Modelled, ModelSpec, Update
from llmrl.recipe import Recipe, TrainOptions
from llmrl.samples import Array, Sample
from llmrl.train import critic, network
from llmrl.train.learner import Learner, OptimStep
from llmrl.train.parts import FinishedStep, metric_prefix
from llmrl.train.policy import Policy, Reference
from llmrl.train.stopping import Stopping


def learning_rate(options: TrainOptions, step: int) -> float:
    """The rate of loop step `step`: linear warm-up, then constant, or linear or cosine to 0 at `max_steps`."""
    if step < options.warmup:
        return options.learning_rate * (step + 1) / options.warmup
    done = (step - options.warmup) / max(1, options.max_steps - options.warmup)
    shape = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}
    return options.learning_rate * shape[options.lr_scheduler_type]


MODELS: tuple[Filler, ...] = ("reference", "policy", "critic")
"""Models that fill columns, in the order in which they are asked: the policy is asked about `ref_peak_ids`."""

NOTED: Sequence[Column] = ("old_logprobs", "old_entropy")
"""Columns that the log shows, and that an algorithm may do without."""


class Learners:
    """The policy, its reference, and the models of numbers that the algorithm asks for, by name.

    Args:
        recipe: of the run.
        accelerator: its processes.
        needs: columns that models shall fill; a critic is there for those of a critic.
        stopping: signals that may ask the run to end.
        only_needs: leave out models that fill none of these columns, for what never trains.
        agent: whose models they are, where the agent has a policy of its own.
    """

    def __init__(
        self,
        recipe: Recipe,
        accelerator: Any,
        needs: Iterable[Column],
        stopping: Stopping | None = None,
        *,
        only_needs: bool = False,
        agent: str = "",
    ) -> None:
        needs = frozenset(needs)
        _require_known(needs)
        policy = network.load(recipe.model, checkpointing=recipe.train.gradient_checkpointing)
        frozen = None
        refers = not needs.isdisjoint(filled_by("reference"))
        if refers and not recipe.model.use_peft:  # LoRA's reference is the model below the adapters
            frozen = network.TokenScorer(network.load(recipe.model, trained=False))
        self.policy = Policy(network.TokenScorer(policy), accelerator, recipe.train, recipe.rollout.temperature)
        self.reference = Reference(frozen, self.policy, recipe.model) if frozen is not None else None
        self._adapts = recipe.model.use_peft
        self._named: dict[str, Learner] = {"policy": self.policy}
        for name, spec in _models(recipe, needs, only_needs).items():
            self._named[name] = critic.load(recipe, accelerator, spec)
        self._label = metric_prefix(agent)
        self._notes = recipe.rollout.log_trainer
        self._noted: dict[tuple[str, int, int], dict[str, Array]] = {}  # by group, episode and first turn of a sample
        self._stopping = stopping or Stopping()
        for learner in (*self._named.values(), self.reference):
            if learner is not None:
                learner.check = self._stopping.check

    def __getitem__(self, name: str) -> Learner:
        if name not in self._named:
            raise RecipeError(
                f"algorithm: it trains the model {name!r}, which this run does not have; a critic is built for an "
                "algorithm that needs() the column values or next_values, and others that its models() name"
            )
        return self._named[name]

    def annotate(self, rows: Sequence[Sample], needs: Iterable[Column]) -> list[Sample]:
        """The rows with the columns that the algorithm asked for, one forward pass of each model that fills any.

        Columns that all rows have already, as stored ones, are not computed again.
        """
        rows = list(rows)
        needs = {name for name in needs if not all(name in row.columns for row in rows)}
        if "old_kept_logprobs" in needs:
            _require_support(rows)
        for filler in MODELS if rows else ():
            asked = {name: column for name, column in filled_by(filler).items() if name in needs}
            if asked:
                read = self._read(filler, rows, [column.field for column in asked.values()])
                rows = [
                    row.assign(**{name: _kept(column, numbers[column.field], row) for name, column in asked.items()})
                    for row, numbers in zip(rows, read, strict=True)
                ]
        self._noted = self._note(rows) if self._notes else {}
        return rows

    def with_noted(self, rows: Sequence[Sample]) -> list[Sample]:
        """The rows of the last step with columns that are for the log alone: no credit and no loss has seen them."""
        return [row.assign(**self._noted[name]) if (name := _name(row)) in self._noted else row for row in rows]

    def _note(self, rows: Sequence[Sample]) -> dict[tuple[str, int, int], dict[str, Array]]:
        """The columns of `NOTED` that the algorithm has not asked for, by sample. Collective."""
        asked = [name for name in NOTED if not all(name in row.columns for row in rows)]
        read = self.policy.read(rows, [COLUMNS[name].field for name in asked]) if asked else ()
        return {
            _name(row): {name: numbers[COLUMNS[name].field] for name in asked}
            for row, numbers in zip(rows, read, strict=bool(asked))
            if row.origin == "fresh" and row.actions
        }

    def _read(self, filler: Filler, rows: Sequence[Sample], fields: Sequence[str]) -> list[dict[str, Array]]:
        """Fields of a model's forward pass over the rows."""
        if filler != "reference":
            return self[filler].read(rows, fields)
        if self.reference is not None:
            return self.reference.read(rows, fields)
        if not self._adapts:
            raise RecipeError(
                "algorithm: it asks the reference about answers that have no stored column, and no reference is "
                "loaded, as source.columns has its columns of the stored answers; expected source.columns: null"
            )
        with self.policy.without_adapters():
            return self.policy.read(rows, fields)

    def fit(
        self, rows: Sequence[Sample], update: Update, *, seed: int, rate: float
    ) -> Iterator[tuple[list[Sample], OptimStep]]:
        """Make the optimiser steps of an update; yields the samples of each, and its result."""
        rows = update.chosen(rows)
        if not rows:  # nothing of this step teaches
            return
        parts = minibatches(
            rows, epochs=update.epochs, parts=update.minibatches, keep_groups=update.keep_groups, seed=seed
        )
        for part in parts:
            fitted = self[update.model].fit(part, update, scale=len(rows) / len(part), rate=rate)
            self._stopping.commit()
            yield part, replace(fitted, model=self._label + fitted.model)

    @property
    def models(self) -> Mapping[str, Learner]:
        """All models but the reference, by name; those that never learn included."""
        return self._named

    @property
    def exported(self) -> Mapping[str, critic.Critic]:
        """Models that are trained besides the policy, by name."""
        return {name: model for name, model in self._named.items() if isinstance(model, critic.Critic) and model.trains}

    def learning_rate(self, step: int, model: str) -> float:
        """The rate of a model in a loop step; each has its own peak, and all have one schedule."""
        return learning_rate(self[model].options, step)

    def follow(self, step: int) -> None:
        """Let a reference that moves take its share of the policy, after loop step `step`."""
        if self.reference is not None:
            self.reference.follow(self.policy, step)

    def after_step(self, finished: FinishedStep) -> None:
        self.follow(finished.step)


def _models(recipe: Recipe, needs: frozenset[Column], only_needs: bool) -> Mapping[str, ModelSpec]:
    """Specs of the models of numbers: the algorithm's own, else a critic where it is asked for columns."""
    asked = bool(needs & filled_by("critic").keys())
    if isinstance(recipe.algorithm, Modelled) and (asked or not only_needs):
        return recipe.algorithm.models()
    return {"critic": ModelSpec()} if asked else {}


def _name(row: Sample) -> tuple[str, int, int]:
    """Name of a sample within a step: no two of an episode begin with the same turn."""
    return row.group, row.episode, int(row.turn_ids[row.action_mask.argmax()])


def _kept(column: Declared, numbers: Array, row: Sample) -> float | Array:
    """The numbers of a model that a column keeps: one for each token, or that of the row's last action."""
    if not column.last:
        return numbers
    return float(numbers[row.action_mask][-1]) if row.actions else 0.0


def _require_known(needs: Iterable[Column]) -> None:
    known = filled_by(*MODELS)
    for name in sorted(set(needs) - known.keys()):
        raise RecipeError(
            f"algorithm: it needs() the column {name!r}, which no model fills{did_you_mean(name, known)}; "
            f"known: {', '.join(known)}"
        )


def _require_support(rows: Sequence[Sample]) -> None:
    for row in rows:
        if row.support_ids is None:
            raise RecipeError(
                f"group {row.group}, episode {row.episode}: the algorithm needs the tokens among which each was "
                "sampled, and the engine did not return them; set engine.return_kept_ids=true and rollout.top_p below 1"
            )
