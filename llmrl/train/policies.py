"""The policies of a run: its own, and one for each agent that learns with parameters of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmrl.protocols import Algorithm
from llmrl.recipe import Recipe
from llmrl.recipe.options import OpponentOptions
from llmrl.rollout.episode import Opponent
from llmrl.samples import Sample
from llmrl.train.adaptation import Adaptation
from llmrl.train.learner import OptimStep
from llmrl.train.learners import Learners
from llmrl.train.stopping import Stopping
from llmrl.train.weight_sync import WeightSync


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedPolicy:
    """A policy that learns: its models, the algorithm as it stands for it, and the sync into its engine."""

    agent: str = ""  # whose turns it learns from; "" for the run's, which learns from all turns that are no other's
    learners: Learners
    adaptation: Adaptation
    sync: WeightSync
    apart: frozenset[str] = frozenset()  # agents of the run that have a policy of their own

    @property
    def algorithm(self) -> Algorithm:
        """The recipe's, as it stands for this policy."""
        return self.adaptation.algorithm

    def own(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples that it learns from."""
        return [sample for sample in samples if (sample.agent if sample.agent in self.apart else "") == self.agent]


@dataclass(frozen=True, slots=True)
class PolicyStep:
    """A step of a policy: its samples with their credit, and its optimiser steps in order."""

    policy: TrainedPolicy
    samples: Sequence[Sample]
    updates: Sequence[OptimStep]


def trained_policies(
    recipe: Recipe,
    accelerator: Any,
    learners: Learners,
    sync: WeightSync,
    opponents: Mapping[str, Opponent],
    stopping: Stopping,
    ready: Callable[[Recipe, Learners], None],
) -> list[TrainedPolicy]:
    """The run's policy, and one for each agent whose opponent learns, in the recipe's order.

    Args:
        recipe: of the run.
        accelerator: its processes.
        learners, sync: of the run's policy.
        opponents: running, by agent; an agent's own policy without one is sent to no engine.
        stopping: signals that may ask the run to end.
        ready: refuses models that will not do.
    """
    apart = recipes_apart(recipe)
    steps = recipe.collect_only_steps
    own = Adaptation(recipe.algorithm, steps, stored=not recipe.source.plays)
    made = [TrainedPolicy(learners=learners, adaptation=own, sync=sync, apart=frozenset(apart))]
    for agent, its in apart.items():
        learners = Learners(its, accelerator, recipe.algorithm.needs(), stopping, agent=agent)
        ready(its, learners)
        engine = opponents[agent].engine if agent in opponents else None
        made.append(
            TrainedPolicy(
                agent=agent,
                learners=learners,
                adaptation=Adaptation(recipe.algorithm, steps, agent),
                sync=WeightSync(learners.policy, engine, recipe.compute_dtype),
                apart=frozenset(apart),
            )
        )
    return made


def recipes_apart(recipe: Recipe) -> dict[str, Recipe]:
    """The recipes by which agents learn by themselves, in the order in which checkpoints hold their models."""
    apart = {agent: options for agent, options in recipe.rollout.opponents.items() if options.learns}
    return {agent: _own_recipe(recipe, options) for agent, options in apart.items()}


def _own_recipe(recipe: Recipe, options: OpponentOptions) -> Recipe:
    """The recipe by which an opponent learns: the run's, with its own model, temperature and learning rate."""
    model, rollout, train = recipe.model, recipe.rollout, recipe.train
    if options.model is not None:
        model = replace(model, policy=options.model, model_revision=None)
    if options.temperature is not None:
        rollout = replace(rollout, temperature=options.temperature)
    if options.learning_rate is not None:
        train = replace(train, learning_rate=options.learning_rate)
    return replace(recipe, model=model, rollout=rollout, train=train)
