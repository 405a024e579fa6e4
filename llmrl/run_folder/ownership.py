"""Decide whether a run may write to its output folder, and which checkpoint it resumes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmrl.errors import CheckpointError, RecipeError
from llmrl.recipe import Recipe, read
from llmrl.run_folder.command import writing_recipe
from llmrl.run_folder.records import METRICS

FREE = ("max_steps", "save_steps", "save_total_limit", "output_dir", "run_name", "report_to", "max_nonfinite_updates")
"""Options of `train` that a resumed run may change: they do not affect the steps already taken."""


def open_run_folder(folder: Path, recipe: Recipe, latest: Path | None, resume: bool) -> Path | None:
    """Return the checkpoint to resume from; None for a folder that is free, or whose run logged no step.

    Raises:
        CheckpointError: the folder holds a run and `resume` is off.
        RecipeError: the run there has another recipe, or one that this version does not know.
    """
    before, log = folder / "recipe.yaml", folder / METRICS
    begun = latest is not None or (log.exists() and log.stat().st_size > 0)
    if not before.exists() or not begun:
        return None
    if not resume:
        raise CheckpointError(
            f"{folder} already holds a run; add --resume to go on with it, or choose another train.run_name"
        )
    changed = sorted(_changes(_recipe_of(before), recipe.as_dict()))
    if changed:
        raise RecipeError(
            f"{before}: cannot resume with another recipe; changed: {', '.join(changed)}. Choose another "
            "train.run_name to start anew"
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


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Dotted names of what differs and matters."""
    for section in sorted({*old, *new}):
        left, right = old.get(section) or {}, new.get(section) or {}
        for key in sorted({*left, *right}):
            free = (section == "train" and key in FREE) or section == "audit"  # from which nothing learns
            if not free and left.get(key) != right.get(key):
                yield f"{section}.{key}"
