"""Benchmarks of a run: problems of one's own, by the run's environment and reward, and benchmarks by name."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from typing import Any

from llmrl.plugins import Kind, build, spec_of
from llmrl.protocols import Benchmark, RewardPlugin
from llmrl.recipe import Recipe
from llmrl.types import Sampling

OWN = "data"
"""Name of the benchmark that `eval.data` is."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A benchmark that a run asks, and the reward that judges it."""

    benchmark: Benchmark
    reward: RewardPlugin


def asked(recipe: Recipe) -> dict[str, Asked]:
    """Benchmarks of a run by name, that of `eval.data` first; none if it never evaluates.

    Raises:
        RecipeError: no such benchmark, or its reward does not build.
    """
    if not recipe.evaluates:
        return {}
    found = {} if recipe.eval.data is None else {OWN: _own(recipe)}
    for name in recipe.eval.benchmarks:
        benchmark: Benchmark = build("benchmark", name, "eval.benchmarks")
        found[name] = Asked(benchmark, build("reward", benchmark.reward, f"benchmark {name}: reward"))
    return found


def _own(recipe: Recipe) -> Asked:
    """Greedy answers, of the length of those that train."""
    assert recipe.reward is not None  # `llmrl.recipe.checks.evaluation`
    benchmark = Benchmark(
        data=_as_it_is("data", recipe.eval.data),
        reward=_as_it_is("reward", recipe.reward),
        env=_as_it_is("env", recipe.env),
        max_turns=recipe.rollout.max_turns,
        sampling=Sampling(temperature=0.0, max_tokens=recipe.rollout.max_completion_length),
        judged=None,
        about="eval.data, in the run's environment and by its reward",
    )
    return Asked(benchmark, recipe.reward)


def _as_it_is(kind: Kind, plugin: Any) -> Any:
    """The plug-in itself, which `build` returns: one that Python has given is lost in its spec."""
    return plugin if is_dataclass(plugin) else spec_of(kind, plugin)
