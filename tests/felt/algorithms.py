"""Algorithms: credit, updates and gradients of random steps, by themselves and after they adapted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from llmrl import plugins
from llmrl.checks.verify.form import Form
from llmrl.checks.verify.forms import forms
from llmrl.checks.verify.objective import LATE, annotated, said_of, taught
from llmrl.checks.verify.random_rows import Play, heads_of, play_for
from llmrl.errors import RecipeError
from llmrl.plugins import construct, options_of
from llmrl.protocols import Adaptive, Fitted, Measured, Modelled
from llmrl.samples import Sample
from tests.felt.probe import Options, Probe

STEPS = (0, 1, 12, 30, LATE)
"""Steps whose updates are looked at: inside and behind the warm-ups."""
METRICS = [
    {"entropy": nats, "explained_variance": 0.3, "objective/kl": 0.3, "objective/episodes": 8.0} for nats in (1, 2)
]
"""Of the steps that an algorithm adapts to."""


KL = {"kl_in_reward": False, "kl_estimator": "k3"}
BESIDE: dict[str, list[Options]] = {
    "a_lol": [{"baseline": "attention"}, {"baseline": "stored"}],
    "grpo": [{"loss_type": "cispo", "weight_cap": 1.0, "num_iterations": 2}, {**KL, "beta": 0.1}],
    "oreal": [{"token_weights": "top_fraction"}, {"right_above": 0.5}],
    "ppo": [
        {"kl_target": 0.1, "kl_horizon": 100},
        {"critic_warmup": 5, "warmup_explained_variance": 0.5},
        {"lam": 1.0},
        KL,
    ],
    "rloo": [{"num_iterations": 2}],
    "step_apo": [{"loss_type": loss, "advantage_margin": 0.0} for loss in ("simpo", "cpl")],
    "t1": [{"entropy_control": "adaptive", "starting_entropy": 1.5}, {"starting_entropy": 0.5}, {"train_k": 2}],
}
"""Options that wake others, besides those of the forms."""
VALUES: dict[str, list[Any]] = {
    "delta": [1.21, 1.3, 1.5, 2.0],
    "epsilon_high": [0.0, 0.05, 5.0],
    "importance_sampling_cap": [1.05, 1.5],
    "weight_floor": [0.9, 1.0],
    "discounts": [{"reward": 1.0, "token_rewards": 0.5}],
    "channels": [{"correct": 1.0, "explore": 0.5}],
    "max_completion_length": [7],
}


def probes() -> dict[str, list[Probe]]:
    """Probes of each algorithm: the forms that verify knows of it, and options that wake others."""
    made: dict[str, list[Probe]] = {}
    for name in plugins.names("algorithm"):
        owner = plugins.find("algorithm", name)
        own = [form for form in forms() if type(form.algorithm) is owner]
        woken = [options for parent, each in BESIDE.items() for options in each if parent in _lineage(owner)]
        beside = [{**_changed(own[0]), **options} for options in woken]
        played = replace(own[0], turns=not own[0].pairs)
        made[f"algorithm {name}"] = [
            *(Probe(use=_use(form), base=_changed(form), values=VALUES) for form in own),
            *(Probe(use=_use(played), base=base, values=VALUES) for base in beside if _fits(owner, base)),
        ]
    return made


def _fits(owner: type, base: Options) -> bool:
    """True where an algorithm takes the options."""
    try:
        construct(owner, base, "algorithm")
    except RecipeError:
        return False
    return True


def _lineage(owner: type) -> set[str]:
    """Names of the algorithms that an algorithm is made of."""
    return {name for name in plugins.names("algorithm") if issubclass(owner, plugins.find("algorithm", name))}


def _changed(form: Form) -> Options:
    """Options of a form that are not the defaults."""
    defaults = options_of(type(form.algorithm)())
    return {name: value for name, value in options_of(form.algorithm).items() if value != defaults[name]}


def _use(form: Form) -> Callable[[Any], Any]:
    """Return what an algorithm makes of a random step of the rows that a form learns from."""

    plays: dict[str, Play] = {}  # by the models that it asks

    def use(algorithm: Any) -> Any:
        heads = repr(heads_of(algorithm))
        if heads not in plays:
            plays[heads] = _telling(replace(form, algorithm=algorithm))
        play = plays[heads]
        said = [{name: column.detach() for name, column in one.items()} for one in said_of(play)]
        return list(_step(algorithm, play.rows, said))

    return use


def _telling(form: Form) -> Play:
    """A small random step in which an answer was cut off that was scored, and some have no verdict."""
    size = {"oreal": 4, "webrl_released": 4}.get(form.name, 3)
    some = (play_for(form, seed, groups=size, size=size) for seed in range(99))
    play = next(play for play in some if form.pairs or any(_cut(row) for row in play.rows[3:]))
    rows = [replace(row, correct=row.correct if row.episode else None) for row in play.rows]
    rows = [row.with_numbers(value=0.3) for row in rows]
    return replace(play, rows=rows)


def _cut(row: Sample) -> bool:
    return row.truncated and row.reward == row.reward


def _step(given: Any, play_rows: list[Sample], said: Any) -> Iterator[Any]:
    algorithm = given.fitted(getattr(given, "max_completion_length", None) or 4) if isinstance(given, Fitted) else given
    yield algorithm.needs(), getattr(algorithm, "least_generations", None)
    if isinstance(algorithm, Modelled):
        yield {name: replace(spec, columns={}) for name, spec in algorithm.models().items()}
    rows = annotated(algorithm, play_rows)
    yield from _learned(algorithm, rows, said)
    if isinstance(algorithm, Adaptive):
        moved: Any = algorithm
        for step in range(12):
            moved = moved.adapted(step, METRICS[step > 0])
            if step in (0, 2, 11) and moved != algorithm:
                yield from _learned(moved, rows, said)


def _learned(algorithm: Any, rows: list[Sample], said: Any) -> Iterator[Any]:
    credited = algorithm.credit(rows)
    yield [(row.group, row.episode, row.columns) for row in credited]
    for step in STEPS:
        yield [
            (u.model, u.epochs, u.minibatches, u.keep_groups, u.entropy_grad, u.peaks, len(u.chosen(credited)))
            for u in algorithm.updates(step)
        ]
    learned = taught(algorithm, credited, said)
    yield {model: (one.objective, one.gradients) for model, one in learned.items()}
    if isinstance(algorithm, Measured):
        yield algorithm.metrics(credited)
