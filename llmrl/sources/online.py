"""Samples of the current policy: problems in a shuffled order, a group of episodes each, generated when a step asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmrl.errors import DataError
from llmrl.recipe import RolloutOptions
from llmrl.rollout.filters import DynamicSampling, Filter
from llmrl.rollout.sampler import FreshSampler, Sampler
from llmrl.rollout.scheduler import Groups, Scheduler, SourceContext
from llmrl.rollout.source import RolloutSource
from llmrl.rollout.worker import RolloutWorker
from llmrl.types import Problem


@dataclass(frozen=True)
class Online:
    """With `dynamic_sampling`, groups that are all right or all wrong are replaced (DAPO, arXiv 2503.14476)."""

    dynamic_sampling: bool = False
    max_refills: int = 10  # times that missing groups are generated again; then the step goes on with what there is

    def start(
        self,
        player: RolloutWorker,
        problems: Sequence[Problem],
        options: RolloutOptions,
        *,
        seed: int,
        rank: tuple[int, int],
        gather: Callable[[Groups], Groups],
    ) -> RolloutSource:
        """Compose the source, at the beginning of the data, on one of the ranks: (which, of how many).

        Raises:
            DataError: there are no problems, or an option cannot be met.
        """
        if not problems:
            raise DataError("the dataset has no problems; expected at least one")
        context = SourceContext(player=player, problems=problems, options=options, seed=seed, rank=rank, gather=gather)
        sampler = self.sampler(context)
        return RolloutSource(
            sampler,
            self.scheduler(sampler, context),
            self.filters(),
            prompts_per_step=options.prompts_per_step,
            max_refills=self.max_refills,
        )

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
