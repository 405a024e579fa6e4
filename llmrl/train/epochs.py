"""Epochs in steps: a run of so many passes over its data, whose size is known once the data is read."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from llmrl.chat import Chat, load_tokenizer
from llmrl.errors import RecipeError
from llmrl.recipe import Recipe
from llmrl.train.prompts import problems_to_play


def in_steps(recipe: Recipe) -> Recipe:
    """The recipe with `train.max_steps` in place of `train.num_train_epochs`; itself where it names no epochs.

    A step takes `rollout.prompts_per_step` problems, or rows of stored answers; the last step of an epoch may take some
    of the next. Rows that turn out to be of no use count, and so do problems that dynamic sampling plays in addition.

    Raises:
        RecipeError: the source does not go through its data in epochs, or as `Recipe` refuses so many steps.
        DataError: the data cannot be read.
    """
    epochs = recipe.train.num_train_epochs
    if epochs is None:
        return recipe
    steps = max(1, ceil(epochs * _size(recipe) / recipe.rollout.prompts_per_step))
    return replace(recipe, train=replace(recipe.train, max_steps=steps, num_train_epochs=None))


def _size(recipe: Recipe) -> int:
    """Problems that are played, or units of stored rows."""
    if not recipe.source.plays:
        units = getattr(recipe.source, "units", None)
        if units is None:
            raise RecipeError(
                "train.num_train_epochs: this source has no rows to count; expected train.max_steps in its place"
            )
        return sum(1 for _ in units())
    if recipe.rollout.drop_long_prompts:
        return len(problems_to_play(recipe, Chat(load_tokenizer(recipe.model.policy)), main=False))
    return sum(1 for _ in recipe.data.problems()) if recipe.data is not None else 0
