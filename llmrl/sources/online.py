"""Samples of the current policy: problems in a shuffled order, a group of episodes each, generated when a step asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from llmrl.errors import DataError
from llmrl.plugins import build_held, holds
from llmrl.protocols import Column, CurriculumFactory
from llmrl.recipe.ranges import Whole
from llmrl.rollout.context import SourceContext
from llmrl.rollout.curriculum import CurriculumSampler
from llmrl.rollout.filters import DynamicSampling, Filter
from llmrl.rollout.sampler import FreshSampler, ProblemSampler, Sampler
from llmrl.rollout.scheduler import Scheduler
from llmrl.rollout.source import RolloutSource
from llmrl.run_folder.manifest import data_hash


@dataclass(frozen=True)
class Online:
    """With `dynamic_sampling`, groups that are all right or all wrong are replaced (DAPO, arXiv 2503.14476)."""

    plays: ClassVar[bool] = True
    dynamic_sampling: bool = False
    max_refills: Whole = 10  # times that missing groups are generated again; then the step goes on with what there is
    curriculum: CurriculumFactory | None = field(default=None, metadata=holds("curriculum"))  # None: each once a pass

    def __post_init__(self) -> None:
        build_held(self)

    def start(self, context: SourceContext) -> RolloutSource:
        """Compose the source, at the beginning of the data, on one of the ranks.

        Raises:
            DataError: there are no problems, or an option cannot be met.
        """
        if not context.problems:
            raise DataError("the dataset has no problems; expected at least one")
        sampler = self.sampler(context)
        return RolloutSource(
            sampler,
            self.scheduler(sampler, context),
            self.filters(),
            prompts_per_step=context.options.prompts_per_step,
            max_refills=self.max_refills,
            data={"problems": len(context.problems), "sha256": data_hash(context.problems)},
        )

    def fills(self) -> frozenset[Column]:
        """Nothing: its answers are new to every model."""
        return frozenset()

    def sampler(self, context: SourceContext) -> Sampler:
        """Draw problems from their prompt."""
        return self.problem_sampler(context)

    def problem_sampler(self, context: SourceContext) -> ProblemSampler:
        """Draw by the curriculum, or every problem once a pass."""
        if self.curriculum is None:
            return FreshSampler(context.problems, context.seed)
        return CurriculumSampler(context.problems, context.seed, self.curriculum)

    def scheduler(self, sampler: Sampler, context: SourceContext) -> Scheduler:
        """Run a group in the step that learns from it."""
        return Scheduler(sampler, context)

    def filters(self) -> list[Filter]:
        """Refuse groups without an advantage, where asked to."""
        return [DynamicSampling()] if self.dynamic_sampling else []


plugin = Online
