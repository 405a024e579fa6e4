"""The phases of a run whose critic, or reward model, learns before the policy does."""

from __future__ import annotations

from typing import Literal

Phase = Literal["collect", "critic", "rl"]


def phase(
    *,
    rollouts: int,
    min_rollouts: int,
    critic_steps: int,
    max_critic_steps: int,
    explained_variance: float | None,
    enough: float,
) -> Phase:
    """Phase of a step: collect only, train the critic only, or train everything.

    Args:
        rollouts: episodes generated before the step, and `min_rollouts`: before anything learns.
        critic_steps: steps in which the critic learned alone, and `max_critic_steps`: after which it need not go on.
        explained_variance: the best that the critic reached in them; None where it has not been measured.
        enough: from which on the policy learns, too.
    Source: WSRL collects before it updates; for language models see docs/algorithms/restarts.md.
    """
    if rollouts < min_rollouts:
        return "collect"
    warmed = explained_variance is not None and explained_variance >= enough
    return "rl" if warmed or critic_steps >= max_critic_steps else "critic"
