"""Samples of the current policy: problems in a shuffled order, a group of episodes each, generated when a step asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llmrl.errors import DataError
from llmrl.protocols import Column
from llmrl.rollout.context import SourceContext
from llmrl.rollout.filters import DynamicSampling, Filter
from llmrl.rollout.sampler import FreshSampler, Sampler
from llmrl.rollout.scheduler import Scheduler
from llmrl.rollout.source import RolloutSource
from llmrl.run_folder.manifest import data_hash


@dataclass(frozen=True)
class Online:
    """With `dynamic_sampling`, groups that are all right or all wrong are replaced (DAPO, arXiv 2503.14476)."""

    plays: ClassVar[bool] = True
    dynamic_sampling: bool = False
    max_refills: int = 10  # times that missing groups are generated again; then the step goes on with what there is

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
        """Draw every problem from its prompt."""
        return FreshSampler(context.problems, context.seed)

    def scheduler(self, sampler: Sampler, context: SourceContext) -> Scheduler:
        """Run a group in the step that learns from it."""
        return Scheduler(sampler, context)

    def filters(self) -> list[Filter]:
        """Refuse groups without an advantage, where asked to."""
        return [DynamicSampling()] if self.dynamic_sampling else []


plugin = Online
