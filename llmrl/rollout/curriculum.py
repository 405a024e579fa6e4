"""A sampler that draws problems by a curriculum, which learns from every group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from statistics import fmean
from typing import Any

import numpy as np

from llmrl.errors import DataError
from llmrl.ops.curriculum import draw, effective, mixed
from llmrl.protocols import CurriculumFactory
from llmrl.rollout.outcomes import pass_rate
from llmrl.rollout.sampler import Draw, Played
from llmrl.types import Problem


class CurriculumSampler:
    """Problems from their prompt, each in proportion to its curriculum's weight; none twice in one call of `next`.

    A draw is called `<number>/<problem>`, with its number among all draws of the run, which also seeds the chance in
    it. A draw uses the outcomes of the steps that were observed before it.
    """

    def __init__(self, problems: Sequence[Problem], seed: int, factory: CurriculumFactory) -> None:
        self.problems = problems
        self.seed = seed
        self._curriculum = factory.start(problems)
        self._random_share = factory.random_share
        self._numbers = {problem.id: number for number, problem in enumerate(problems)}
        if len(self._numbers) < len(problems):
            raise DataError("source.curriculum: two problems of the data have one id; expected an id for each")
        self._drawn = 0

    def next(self, count: int, step: int) -> list[Draw]:
        """Draw the next problems."""
        generator = np.random.default_rng(Random(f"{self.seed}/curriculum/{self._drawn}").getrandbits(64))
        problems = [self.problems[number] for number in draw(self._probabilities(), count, generator)]
        first, self._drawn = self._drawn, self._drawn + count
        return [Draw(f"{first + i}/{problem.id}", problem) for i, problem in enumerate(problems)]

    def draw(self, name: str) -> Draw:
        """Give the draw of a name once more: it names its problem."""
        return Draw(name, self.problems[self._numbers[name.partition("/")[2]]])

    def observe(self, step: int, played: Sequence[Played]) -> dict[str, float]:
        """Tell the curriculum the pass rate of each group that was judged."""
        rates = [(self._numbers[each.problem.id], pass_rate(group)) for each, group in played]
        outcomes = [(number, rate) for number, rate in rates if rate is not None]
        metrics = self._curriculum.observe(outcomes)
        if outcomes:
            metrics["curriculum/pass_rate"] = fmean(rate for _, rate in outcomes)
        return metrics | {"curriculum/effective_problems": effective(self._probabilities())}

    def state(self) -> Mapping[str, Any]:
        return {"drawn": self._drawn, "curriculum": self._curriculum.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._drawn = int(state["drawn"])
        self._curriculum.restore(state["curriculum"])

    def _probabilities(self) -> Any:
        return mixed(self._curriculum.weights(), self._random_share)
