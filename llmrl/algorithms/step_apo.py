"""Step-APO: preferences between two steps after one prefix, told further apart the more their values differ."""

from __future__ import annotations

from dataclasses import dataclass

from llmrl.algorithms.preference import Preference


@dataclass(frozen=True, kw_only=True)
class StepAPO(Preference):
    """DPO on steps with their advantage gap as a margin (arXiv 2409.08642; docs/algorithms/step_apo.md).

    Siblings share their parent, so the gap of their advantages is that of their values: of a pair's rewards.
    `advantage_margin: 0` is Step-DPO (arXiv 2406.18629).
    """

    beta: float = 0.3
    advantage_margin: float = 1.0


plugin = StepAPO
