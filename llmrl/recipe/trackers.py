"""Trackers of runs: their names, and whether their packages are installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

from llmrl.errors import RecipeError

Tracker = Literal[
    "tensorboard", "wandb", "mlflow", "trackio", "comet_ml", "clearml", "dvclive", "swanlab", "aim", "none"
]
"""Names that `train.report_to` takes: Accelerate's, and `none`."""
_MODULES: Mapping[str, Sequence[str]] = {"tensorboard": ("tensorboard", "tensorboardX")}
"""Modules of which one must be there, where they have other names than the tracker."""
_NAME: Mapping[str, str] = {
    "wandb": "name",
    "trackio": "name",
    "mlflow": "run_name",
    "clearml": "task_name",
    "swanlab": "experiment_name",
}
"""What a tracker calls the name of a run when it begins one."""
_CONFIG = ("wandb", "trackio", "swanlab")
"""Trackers that take the recipe as `config`."""


def beginnings(run_name: str, recipe: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Arguments by which Accelerate begins a run of each tracker: the run's name, and the recipe as its config."""
    named: dict[str, dict[str, Any]] = {tracker: {option: run_name} for tracker, option in _NAME.items()}
    return {t: given | ({"config": dict(recipe)} if t in _CONFIG else {}) for t, given in named.items()}


def require_installed(trackers: Sequence[str]) -> None:
    """Refuse trackers without a package, which Accelerate would leave out without a word.

    Raises:
        RecipeError: names those that are missing.
    """
    missing = [name for name in trackers if not any(find_spec(module) for module in _MODULES.get(name, (name,)))]
    if missing:
        packages = " ".join(name.replace("_", "-") for name in missing)
        raise RecipeError(
            f"train.report_to {', '.join(missing)}: not installed here; pip install {packages}, or choose "
            "train.report_to=none"
        )
