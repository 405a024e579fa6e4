"""Batches of a step, in the words of TRL's trainers."""

from __future__ import annotations

from dataclasses import dataclass

from llmrl.plugins import name_of
from llmrl.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class BatchArithmetic:
    """A step as TRL counts it; episodes of stored answers are rows."""

    processes: int
    per_device_train_batch_size: int  # rows of a micro-batch
    gradient_accumulation_steps: int  # micro-batches of an optimiser step, on each process
    num_generations: int
    generation_batch_size: int  # episodes of a step, over all processes
    steps_per_generation: int  # optimiser steps of a pass
    num_iterations: int  # passes
    steps: int

    @property
    def optimiser_steps(self) -> int:
        """Optimiser steps of the policy, of the whole run."""
        return self.steps * self.steps_per_generation * self.num_iterations

    @property
    def rows_of_update(self) -> int:
        """Rows of an optimiser step, over all processes."""
        return -(-self.generation_batch_size // self.steps_per_generation)

    def told(self) -> str:
        """The arithmetic in a line."""
        whole, each = self.generation_batch_size, self.num_generations
        return (
            f"batches: per_device_train_batch_size {self.per_device_train_batch_size} x gradient_accumulation_steps "
            f"{self.gradient_accumulation_steps} x {self.processes} processes for {self.rows_of_update} rows an "
            f"optimiser step; generation_batch_size {whole} = {whole // each} prompts x num_generations {each}; "
            f"steps_per_generation {self.steps_per_generation}, num_iterations {self.num_iterations}: "
            f"{self.optimiser_steps} optimiser steps in {self.steps} steps"
        )


def batches(recipe: Recipe, rows: int, processes: int) -> BatchArithmetic:
    """The arithmetic of a recipe.

    Args:
        rows: of the largest micro-batch.
        processes: that train.
    """
    (whole, generations), (parts, epochs) = _generation(recipe), _passes(recipe)
    of_update = rows_of_update(recipe)
    each = max(1, min(rows, -(-of_update // processes)))
    return BatchArithmetic(
        processes=processes,
        per_device_train_batch_size=each,
        gradient_accumulation_steps=-(-of_update // (each * processes)),
        num_generations=generations,
        generation_batch_size=whole,
        steps_per_generation=parts,
        num_iterations=epochs,
        steps=recipe.train.max_steps,
    )


def rows_of_update(recipe: Recipe) -> int:
    """Rows of an optimiser step, over all processes."""
    return -(-_generation(recipe)[0] // _passes(recipe)[0])


def _generation(recipe: Recipe) -> tuple[int, int]:
    """Rows of a step, and those that come from one problem."""
    if recipe.source.plays:
        return recipe.rollout.episodes_per_step, recipe.rollout.num_generations
    pairs = name_of("algorithm", recipe.algorithm) == "preference"  # chosen and rejected
    return recipe.rollout.prompts_per_step * (1 + pairs), 1 + pairs


def _passes(recipe: Recipe) -> tuple[int, int]:
    """Optimiser steps of a pass over the rows, and how many passes there are, of the policy."""
    updates = [u for u in recipe.algorithm.updates(recipe.train.max_steps) if u.model == "policy"]
    return (updates[0].minibatches, updates[0].epochs) if updates else (1, 1)
