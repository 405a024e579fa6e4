"""The algorithm of a run as it stands: the recipe's, with the options that have moved since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from llmrl.ops.credit import refuse_single_answers
from llmrl.plugins import name_of, options_of
from llmrl.protocols import Adaptive, Algorithm, Compares, Measured, Update
from llmrl.samples import Sample
from llmrl.train.parts import FinishedStep, metric_prefix


class Adaptation:
    """Counts the algorithm's own steps, which follow those that only collect, and lets it adapt after each.

    Args:
        algorithm: the recipe's.
        collect_only_steps: first steps of the run, in which nothing learns.
        agent: whose metrics it adapts to, where the agent has a policy of its own.
        stored: the rows are of data, and so are their groups, of which no recipe knows how large they are.
    """

    def __init__(self, algorithm: Algorithm, collect_only_steps: int, agent: str = "", *, stored: bool = False) -> None:
        self.algorithm = algorithm
        self.metrics: Mapping[str, float] = {}  # of the last step as a whole
        self._began = algorithm
        self._collect_only_steps = collect_only_steps
        self._compares = stored and getattr(algorithm, "least_generations", 1) > 1
        self._prefix = metric_prefix(agent)

    def asked(self, samples: Sequence[Sample]) -> list[Sample]:
        """The step's samples, and those that the algorithm compares them with: all that models are asked about."""
        return [*samples, *(self.algorithm.compared(samples) if isinstance(self.algorithm, Compares) else ())]

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Samples with the algorithm's credit, without the columns that nothing reads behind it; fills `metrics`.

        Raises:
            RecipeError: the algorithm compares answers to a problem, and no problem of stored rows has two.
        """
        self.metrics = {}
        if not samples:  # nobody spoke by this policy
            return []
        if self._compares:
            refuse_single_answers(samples, name_of("algorithm", self._began))
        credited = self.algorithm.credit(samples)
        if isinstance(self.algorithm, Measured):
            self.metrics = self.algorithm.metrics(credited)
        return [sample.on_device() for sample in credited]

    def updates(self, step: int) -> Sequence[Update]:
        """Updates of a loop step: none while it only collects."""
        own = step - self._collect_only_steps
        return self.algorithm.updates(own) if own >= 0 else ()

    def after_step(self, finished: FinishedStep) -> None:
        """Replace an `Adaptive` algorithm by that for the next step."""
        own = finished.step - self._collect_only_steps
        if isinstance(self.algorithm, Adaptive) and own >= 0:
            numbers = finished.metrics.items()
            mine = {name.removeprefix(self._prefix): n for name, n in numbers if name.startswith(self._prefix)}
            self.algorithm = self.algorithm.adapted(own, mine)

    def state(self) -> dict[str, Any]:
        """Options that differ from the recipe's."""
        began, now = options_of(self._began), options_of(self.algorithm)
        return {name: value for name, value in now.items() if value != began[name]}

    def restore(self, state: Mapping[str, Any]) -> None:
        if state:
            self.algorithm = replace(cast(Any, self._began), **state)
