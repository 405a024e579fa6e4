"""Train from Python: the way that the command line takes, with objects in place of files."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmrl import recipe as recipes
from llmrl.api.given import as_plugin
from llmrl.api.results import TrainedRun
from llmrl.errors import CheckpointError, RecipeError
from llmrl.plugins import Kind
from llmrl.recipe import Recipe
from llmrl.run_folder.libraries import kept_apart
from llmrl.run_folder.progress import Progress
from llmrl.train import loop
from llmrl.train.callbacks import OnState
from llmrl.train.epochs import in_steps
from llmrl.train.evaluation import OnSample, unseen
from llmrl.train.recorder import OnStep
from llmrl.train.run import Run
from llmrl.train.run_export import is_run
from llmrl.train.stopping import Stopping

GIVEN: tuple[Kind, ...] = ("reward", "data", "env")
"""Sections that Python objects may take."""


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    reward: Any = None,
    data: Any = None,
    env: Any = None,
    overrides: Sequence[str] = (),
    on_step: OnState | Sequence[OnState] | None = None,
    name: str | None = None,
    resume: bool | str | Path = False,
    progress: bool = False,
    verbose: bool = False,
) -> TrainedRun:
    """Train by a recipe, as `llmrl train` does; returns the run. Works in a notebook, whose event loop runs.

    Args:
        recipe: a YAML file, its sections as a dictionary, or a `llmrl.Recipe`.
        reward: in place of the recipe's: a function in TRL's form, `f(completions, **columns) -> numbers`; a verifier,
            `f(problem, text) -> Score`; or an object with async `score(group)`.
        data: in place of the recipe's: a list of dictionaries with a `prompt`, a `datasets.Dataset`, or
            `{"rows": ..., "prompt_column": ...}` with options of data `jsonl`.
        env: in place of the recipe's: a class with async reset, step and close, called with the problem.
        overrides: as on the command line: `["train.max_steps=10"]`.
        on_step: called in the main process with a `StepState` behind each step; or several such functions.
        name: of the run's folder in `train.output_dir`; by default `train.run_name`, else the file's name or `run`.
        resume: True goes on from the newest checkpoint of the folder, a path from that one.
        progress: print the lines that the command line prints.
        verbose: show what libraries print; else it goes to `libraries.log` in the folder.
    Raises:
        LlmrlError: as the command line prints it; a `RecipeError` before anything is loaded.
        Stopped: ctrl-C or a signal; the run is saved, and `resume=True` goes on.
    """
    made = _recipe(recipe, overrides, {"reward": reward, "data": data, "env": env})
    called = name or (Path(recipe).stem if isinstance(recipe, str | Path) else "run")
    callbacks = [on_step] if callable(on_step) else list(on_step or ())
    with ExitStack() as stack:
        stack.enter_context(kept_apart(verbose=verbose))
        made, watched = in_steps(made), dict[str, Any]()
        if progress:
            shown = stack.enter_context(Progress(made.train.max_steps, folder=str(folder_of(made, called))))
            watched = {"on_step": shown.step, "on_sample": shown.sample}
        chosen = resume if isinstance(resume, bool) else Path(resume)
        return take_steps(made, called, resume=chosen, callbacks=callbacks, **watched)


def take_steps(
    recipe: Recipe,
    name: str,
    *,
    resume: bool | Path = False,
    on_step: OnStep | None = None,
    on_sample: OnSample = unseen,
    callbacks: Sequence[OnState] = (),
) -> TrainedRun:
    """Take a recipe's steps, until they end, a callback ends them or a signal comes: what CLI and Python share."""
    with ExitStack() as stack:
        stopping = Stopping()
        if threading.current_thread() is threading.main_thread():  # signals come there alone
            stack.enter_context(stopping)
        run = Run(
            recipe,
            resume=resume,
            name=name,
            stopping=stopping,
            on_step=on_step,
            on_sample=on_sample,
            callbacks=callbacks,
        )
        with run:
            loop.train(run)
    return TrainedRun(run.folder, is_main=bool(run.accelerator.is_main_process))


def folder_of(recipe: Recipe, name: str) -> Path:
    """The folder of a recipe's run; `name` where the recipe has no `train.run_name`."""
    return Path(recipe.train.output_dir) / (recipe.train.run_name or name)


def trained(folder: str | Path) -> TrainedRun:
    """A run that is there already, by its folder.

    Raises:
        CheckpointError: no run is there.
    """
    if not is_run(Path(folder)):
        raise CheckpointError(f"{folder}: no folder of a run: no recipe.yaml; expected one such as runs/mine")
    return TrainedRun(Path(folder))


def _recipe(
    recipe: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str], given: Mapping[str, Any]
) -> Recipe:
    """The recipe with overrides and objects in their places.

    Raises:
        RecipeError: it is wrong, or a pipeline.
    """
    objects = {kind: value for kind, value in given.items() if value is not None}
    if isinstance(recipe, Recipe):
        if overrides:
            raise RecipeError("overrides with a Recipe: it is made already; use dataclasses.replace, or give a file")
        return replace(recipe, **{kind: as_plugin(kind, value) for kind, value in objects.items()})  # type: ignore[arg-type]
    if isinstance(recipe, str | Path):
        where, values = str(recipe), recipes.tree(recipe)
    elif isinstance(recipe, Mapping):
        where, values = "recipe", {key: dict(v) if isinstance(v, Mapping) else v for key, v in recipe.items()}
    else:
        raise RecipeError(
            f"recipe: {type(recipe).__name__}; expected a file, its sections as a dictionary, or a Recipe"
        )
    if recipes.STAGES in values:
        raise RecipeError(f"{where}: a pipeline of stages, which the command line runs: llmrl train {where}")
    values |= objects
    for kind in GIVEN:
        if kind in values:
            values[kind] = as_plugin(kind, values[kind])
    if isinstance(asked := values.get("eval"), dict) and "data" in asked:
        asked["data"] = as_plugin("data", asked["data"])
    for text in overrides:
        recipes.override(values, text)
    return recipes.parse(values, where)
