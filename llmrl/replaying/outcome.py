"""The effect of a step under an algorithm: gradient, credit of each token, and the change of the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from llmrl.errors import RecipeError
from llmrl.plugins import name_of, options_of
from llmrl.recipe import Recipe
from llmrl.replaying.reopened import Reopened
from llmrl.samples import Array, Sample
from llmrl.train import random_states
from llmrl.train.learner import Learner
from llmrl.train.learners import Learners
from llmrl.train.metrics import fit_metrics
from llmrl.train.parallel import accelerator
from llmrl.train.policies import TrainedPolicy, trained_policies
from llmrl.train.recorder import policy_metrics
from llmrl.train.stopping import Stopping
from llmrl.train.weight_sync import WeightSync

Place = tuple[str, int, int]
"""Group, episode and first turn of a sample: no other sample of a step has the same."""
Named = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The effect of a step on the run's policy."""

    label: str
    spec: Mapping[str, Any]  # of the algorithm, as it stood
    metrics: Mapping[str, float]  # of the step, as metrics.jsonl has them
    gradient: Named  # of the whole step at once, at the weights before it
    change: Named  # weights behind the step minus those before it
    pushes: Mapping[Place, Array]  # (T,) of each sample: minus the slope of the loss in the token's log-probability
    fresh: Sequence[str] = ()  # models that the run does not have, at their first weights


@dataclass(frozen=True, slots=True)
class ModelState:
    """Weights and optimiser of a model."""

    weights: Mapping[str, Tensor]
    optimiser: Any
    moving: Mapping[str, Tensor] | None  # of a copy that follows it


def place(sample: Sample) -> Place:
    """Name a sample of a step."""
    turns = sample.turn_ids[sample.action_mask]
    return sample.group, sample.episode, int(turns.min()) if len(turns) else -1


def states_of(learners: Learners) -> dict[str, ModelState]:
    """Copies of the states of all models, by name; the reference's among them."""
    return {name: _state(learner) for name, learner in _all(learners)}


def outcome(opened: Reopened, samples: Sequence[Sample], label: str, fresh: Sequence[str] = ()) -> Outcome:
    """Take the step with these samples, and say what it does to the run's policy.

    Raises:
        RecipeError: the algorithm refuses the samples, or DeepSpeed holds the gradients.
    """
    policy, step = opened.policies[0], opened.record.step
    before = {name: weight.detach().clone() for name, weight in _trained(policy)}
    kept = random_states.capture()
    gradient, pushes = _gradient(policy, policy.own(samples), step)
    random_states.put_back(kept)
    learned = opened.learn(samples, step)
    metrics = fit_metrics([update for each in learned for update in each.updates])
    for each in learned:
        metrics |= policy_metrics(each, step, played=bool(opened.source.played))
    return Outcome(
        label=label,
        spec={"name": name_of("algorithm", policy.algorithm), **options_of(policy.algorithm)},
        metrics=metrics,
        gradient=gradient,
        change={name: weight.detach() - before[name] for name, weight in _trained(policy)},
        pushes=pushes,
        fresh=fresh,
    )


def under(opened: Reopened, recipe: Recipe, states: Mapping[str, ModelState]) -> tuple[Reopened, list[str]]:
    """The run before the step under another recipe, with the models in these states; names of those it has not.

    Raises:
        RecipeError: agents learn with parameters of their own.
        CheckpointError: a model that the recipe names does not load.
    """
    if len(opened.policies) > 1:
        raise RecipeError("agents learn with parameters of their own in this run; expected a run with one policy")
    processes = accelerator(replace(recipe.train, report_to="none"))
    random_states.seed(recipe.train.seed)
    learners = Learners(recipe, processes, recipe.algorithm.needs() - recipe.source.fills())
    fresh = [name for name, learner in _all(learners) if not _put_back(learner, states.get(name))]
    sync = WeightSync(learners.policy, None, recipe.compute_dtype)
    policies = trained_policies(recipe, processes, learners, sync, {}, Stopping(), lambda _recipe, _learners: None)
    policies[0].adaptation.restore(_moved(opened, recipe))
    return replace(opened, recipe=recipe, accelerator=processes, policies=policies), fresh


def _moved(opened: Reopened, recipe: Recipe) -> dict[str, Any]:
    """Options that the run's algorithm has moved, where the other recipe has the same algorithm and leaves them."""
    moved = opened.policies[0].adaptation.state()
    began, now = options_of(opened.recipe.algorithm), options_of(recipe.algorithm)
    if type(opened.recipe.algorithm) is not type(recipe.algorithm):
        return {}
    return {name: value for name, value in moved.items() if began[name] == now[name]}


def _gradient(
    policy: TrainedPolicy, samples: Sequence[Sample], step: int
) -> tuple[dict[str, Tensor], dict[Place, Array]]:
    """The gradient of the policy's updates over all samples at once, and what it asks of each token."""
    asked = policy.learners.annotate(policy.adaptation.asked(samples), policy.algorithm.needs())
    rows = policy.adaptation.credit(asked)
    weights: dict[str, Tensor] = {}
    pushes: dict[Place, Array] = {place(row): np.zeros(len(row.token_ids), np.float32) for row in rows}
    for update in policy.adaptation.updates(step):
        chosen = update.chosen(rows) if update.model == "policy" else []
        if not chosen:
            continue
        found = policy.learners.policy.gradient(chosen, update)
        for name, weight in found.weights.items():
            weights[name] = weights[name] + weight if name in weights else weight
        for row, push in zip(chosen, found.pushes, strict=True):
            pushes[place(row)] = pushes[place(row)] + push
    return weights, pushes


def _all(learners: Learners) -> Iterator[tuple[str, Learner]]:
    yield from learners.models.items()
    if learners.reference is not None:
        yield "reference", learners.reference


def _moving(learner: Any) -> Any:
    """The copy that follows a model, or that a reference is; None where there is none."""
    targets = getattr(learner, "targets", None)
    return getattr(learner, "copy", None) if targets is None else targets.copy


def _state(learner: Learner) -> ModelState:
    optimiser = getattr(learner, "optimizer", None)
    moving = _moving(learner)
    return ModelState(
        {name: weight.detach().clone() for name, weight in learner.net.state_dict().items()},
        None if optimiser is None else copy.deepcopy(optimiser.state_dict()),
        None if moving is None else moving.state_dict(),
    )


def _put_back(learner: Learner, state: ModelState | None) -> bool:
    """Give a model a state; tells if it fits."""
    own = learner.net.state_dict()
    if state is None or {name: weight.shape for name, weight in own.items()} != {
        name: weight.shape for name, weight in state.weights.items()
    }:
        return False
    learner.net.load_state_dict(state.weights)
    if state.optimiser is not None and (optimiser := getattr(learner, "optimizer", None)) is not None:
        optimiser.load_state_dict(copy.deepcopy(state.optimiser))
    if state.moving is not None and (moving := _moving(learner)) is not None:
        moving.load_state_dict(state.moving)
    return True


def _trained(policy: TrainedPolicy) -> Iterator[tuple[str, Tensor]]:
    return ((name, weight) for name, weight in policy.learners.policy.net.named_parameters() if weight.requires_grad)
