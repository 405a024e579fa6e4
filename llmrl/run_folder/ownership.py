"""Decide whether a run may write to its output folder, and which checkpoint it resumes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from llmrl.errors import CheckpointError, RecipeError
from llmrl.recipe import Recipe, read, tree
from llmrl.run_folder.command import writing_recipe
from llmrl.run_folder.records import METRICS, ROLLOUTS

FREE = (
    *("max_steps", "save_steps", "save_total_limit", "output_dir", "run_name", "report_to"),
    *("max_nonfinite_updates", "stop_grace_s"),
    *("push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo", "hub_revision", "hub_token"),
)
"""Options of `train` that a resumed run may change: they do not affect the steps already taken."""
RECIPE = "recipe.yaml"
TRACES = (METRICS, ROLLOUTS, "checkpoints", "final")
"""Files and folders in which a run has kept work, where they are not empty."""


def traces(folder: Path, names: Iterable[str] = TRACES) -> list[str]:
    """Name the files and folders in which work was kept: those that are there and not empty."""
    return [name for name in names if (path := folder / name).exists() and not _empty(path)]


def open_run_folder(folder: Path, recipe: Recipe, latest: Path | None, resume: bool) -> Path | None:
    """Return the checkpoint to resume from; None for a folder that is free, or whose run may begin again.

    A run that has begun is never overwritten: what cannot be resumed is refused, and nothing in the folder changes.

    Args:
        latest: the newest complete checkpoint there.
        resume: the user asked to go on.
    Raises:
        CheckpointError: the folder holds a run and `resume` is off, or no recipe says which run it is, or it has
            ended and left no checkpoint.
        RecipeError: the run there has another recipe, or one that this version does not know, or it has taken more
            steps than the recipe wants.
    """
    kept = traces(folder)
    if not kept:
        return None
    begun = f"{folder}: already holds a run ({', '.join(kept)})"
    before = folder / RECIPE
    if lost := _lost(before):
        raise CheckpointError(
            f"{begun}, and its {RECIPE} {lost}; nothing was changed. Write it anew, with the recipe and the overrides "
            f"that it was begun with: `{writing_recipe(before)}`, and go on with --resume; or choose another "
            "train.run_name"
        )
    if not resume:
        raise CheckpointError(f"{begun}; add --resume to go on with it, or choose another train.run_name")
    changed = sorted(_changes(_recipe_of(before), recipe.as_dict()))
    if changed:
        raise RecipeError(
            f"{before}: cannot resume with another recipe; changed: {', '.join(changed)}. Choose another "
            "train.run_name to start anew"
        )
    if latest is None and "final" in kept:
        raise CheckpointError(
            f"{begun}, which has ended and left no checkpoint to go on from; choose another train.run_name"
        )
    if latest is not None and (taken := int(latest.name.rpartition("-")[2])) > recipe.train.max_steps:
        raise RecipeError(
            f"{folder}: train.max_steps {recipe.train.max_steps}, and the run has taken {taken} steps already: nothing "
            f"is left to take, and nothing was exported; expected more than {taken}. For the model after fewer steps, "
            f"where its checkpoint is kept: llmrl export {quote(str(folder))} --step {recipe.train.max_steps}"
        )
    return latest


def _recipe_of(path: Path) -> dict[str, Any]:
    """The recipe that a run has kept, as plain values.

    Raises:
        RecipeError: it is damaged, or this version does not know it.
    """
    try:
        return read(path).as_dict()
    except RecipeError as error:
        raise RecipeError(
            f"{error}. It is the run's copy of its recipe. If yours is unchanged, write the copy anew: "
            f"{writing_recipe(path)}"
        ) from None


def _empty(path: Path) -> bool:
    return not any(path.iterdir()) if path.is_dir() else path.stat().st_size == 0


def _lost(recipe: Path) -> str:
    """Say why no recipe can be read from the file; "" for one that holds sections."""
    try:
        sections = tree(recipe)
    except RecipeError as error:
        if not recipe.exists():
            return "is missing"
        reason = " ".join(str(error).removeprefix(f"{recipe}: ").split())
        return "is empty" if _empty(recipe) else f"cannot be read ({reason})"
    return "" if sections else "is empty"


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Dotted names of what differs and matters."""
    for section in sorted({*old, *new}):
        left, right = old.get(section) or {}, new.get(section) or {}
        for key in sorted({*left, *right}):
            free = (section == "train" and key in FREE) or section == "audit"  # from which nothing learns
            if not free and left.get(key) != right.get(key):
                yield f"{section}.{key}"
