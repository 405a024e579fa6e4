"""Rewards on the scale of all rewards so far, where `train.normalize_rewards` asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from llmrl.ops.moments import Moments, standardised
from llmrl.samples import Sample


class RewardNormaliser:
    """Standardises a step's rewards by the running moments of all episodes; passes them on where it is off."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self.moments = self._marked = Moments()

    def __call__(self, samples: list[Sample]) -> list[Sample]:
        """The samples of a step, of all ranks, with standardised rewards; their episodes count from now on."""
        if not self._enabled:
            return samples
        samples, self.moments = standardised(samples, self.moments)
        return samples

    def mark(self) -> None:
        """Remember the moments before a step, for `rewind`."""
        self._marked = self.moments

    def rewind(self) -> None:
        """Forget the episodes since the last `mark`."""
        self.moments = self._marked

    def metrics(self) -> dict[str, float]:
        """Mean and deviation that the last step was standardised by."""
        if not self._enabled:
            return {}
        return {"reward_norm/mean": self.moments.mean, "reward_norm/std": self.moments.deviation}

    def state(self) -> dict[str, Any]:
        return asdict(self.moments)

    def restore(self, state: Mapping[str, Any]) -> None:
        self.moments = Moments(**state)
