"""The options that there are: each section of a recipe and each plug-in, found as recipes find them."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any, get_args

from llmrl import plugins
from llmrl.recipe.options import (
    AuditOptions,
    CriticOptions,
    EvalOptions,
    ModelOptions,
    OpponentOptions,
    RolloutOptions,
    TrainOptions,
)
from llmrl.reward_models.recipe import BackboneOptions, DataOptions, FitOptions, InputOptions, LossOptions

SECTIONS = (
    *(ModelOptions, CriticOptions, OpponentOptions, RolloutOptions, TrainOptions, EvalOptions, AuditOptions),
    *(BackboneOptions, DataOptions, InputOptions, LossOptions, FitOptions),  # of reward models
)
KINDS = [kind for kind in get_args(plugins.Kind) if kind != "benchmark"]
"""Benchmarks are chosen by name alone."""


def owners() -> list[tuple[str, Any]]:
    """Everything that has options: each section and each plug-in, by name."""
    found: list[tuple[str, Any]] = [(section.__name__, section) for section in SECTIONS]
    for kind in KINDS:
        known = [(f"{kind} {name}", plugins.find(kind, name)) for name in plugins.names(kind)]
        found += [(name, plugin) for name, plugin in known if is_dataclass(plugin)]
    return found
