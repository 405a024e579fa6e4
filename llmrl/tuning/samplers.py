"""Choose the settings of the next trial from those before, without a state, so that a search resumes exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import exp, log
from random import Random
from typing import Any

from llmrl.errors import LlmrlError
from llmrl.tuning.space import Params, Range, Space

Past = Sequence[tuple[Params, Sequence[float]]]
"""Settings and objectives of the trials that have ended well."""
Suggest = Callable[[Space, Past, str], dict[str, Any]]
"""Settings of the next trial, by the space, the past, and a seed."""


def at_random(space: Space, past: Past, seed: str) -> dict[str, Any]:
    """Every dimension by itself, whatever came before."""
    random = Random(seed)
    return {name: _drawn(dimension, random) for name, dimension in space.dimensions.items()}


def tpe(space: Space, past: Past, seed: str) -> dict[str, Any]:
    """Optuna's tree-structured Parzen estimator, for one objective or several.

    Raises:
        LlmrlError: Optuna is not installed.
    """
    try:
        import optuna  # type: ignore[import-not-found]
        from optuna.distributions import CategoricalDistribution, FloatDistribution  # type: ignore[import-not-found]
    except ImportError:
        raise LlmrlError(
            "sampler tpe needs Optuna, which is not installed: pip install 'llmrl[tune]', or sampler: random"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    of = {
        name: FloatDistribution(each.low, each.high, log=each.log)
        if isinstance(each, Range)
        else CategoricalDistribution(each)
        for name, each in space.dimensions.items()
    }
    sampler = optuna.samplers.TPESampler(seed=Random(seed).getrandbits(32))
    study = optuna.create_study(directions=list(space.objectives.values()), sampler=sampler)
    trial = partial(optuna.trial.create_trial, distributions=of)
    study.add_trials([trial(params=dict(params), values=list(values)) for params, values in past])
    return dict(study.ask(of).params)


SAMPLERS: Mapping[str, Suggest] = {"tpe": tpe, "random": at_random}


def _drawn(dimension: Range | list[Any], random: Random) -> Any:
    if isinstance(dimension, list):
        return random.choice(dimension)
    if dimension.log:
        return exp(random.uniform(log(dimension.low), log(dimension.high)))
    return random.uniform(dimension.low, dimension.high)
