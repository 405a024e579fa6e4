"""Samples that were begun before the step that learns from them: generation overlaps training."""

from __future__ import annotations

from dataclasses import dataclass

from llmrl.rollout.context import SourceContext
from llmrl.rollout.filters import Filter, Staleness
from llmrl.rollout.sampler import Sampler
from llmrl.rollout.scheduler import Scheduler
from llmrl.sources.online import Online


@dataclass(frozen=True)
class Asynchronous(Online):
    """`online`, playing ahead: a step's groups may be up to `max_staleness` versions of the weights old.

    The rule is AReaL's (arXiv 2505.24298): what may be begun is bounded by what the steps to come can take in time.
    """

    max_staleness: int = 1  # steps; 0 plays as `online` does and gives the same samples
    max_inflight_tasks: int | None = None  # groups that a process plays at once; None: as many as staleness allows

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_staleness < 0 or (self.max_inflight_tasks is not None and self.max_inflight_tasks < 1):
            raise ValueError("max_staleness must be at least 0, max_inflight_tasks at least 1")

    @property
    def overlaps(self) -> bool:
        """True where the engine is asked to generate while the trainer learns."""
        return self.max_staleness > 0

    def scheduler(self, sampler: Sampler, context: SourceContext) -> Scheduler:
        """Play groups ahead of their step, in the background where that overlaps."""
        return Scheduler(sampler, context, max_staleness=self.max_staleness, max_inflight_tasks=self.max_inflight_tasks)

    def filters(self) -> list[Filter]:
        """Refuse what is older than allowed, too."""
        return [Staleness(self.max_staleness), *super().filters()]


plugin = Asynchronous
