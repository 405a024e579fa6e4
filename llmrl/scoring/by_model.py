"""Rewards that ask a model in this process, an episode at a time."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmrl.scoring.trl_functions import Timed
from llmrl.types import Score, Trajectory


@dataclass
class ByModel(Timed, ABC):
    """Scores a group off the event loop, one group after another; not bound by `rollout.reward_timeout_s`."""

    _alone: asyncio.Lock = field(default_factory=asyncio.Lock, kw_only=True)

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        began = time.monotonic()
        async with self._alone:
            scores = await asyncio.to_thread(lambda: [self.judged(episode) for episode in group])
        self.seconds += [(time.monotonic() - began) / max(len(group), 1)] * len(group)
        return scores

    @abstractmethod
    def judged(self, episode: Trajectory) -> Score:
        """The score of an episode."""
