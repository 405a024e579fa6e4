"""The judgement of the environment itself, beside the rewards that it gave turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmrl.errors import RewardError
from llmrl.types import Score, Trajectory


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Value 0, for the rewards of turns are all that an episode earns, and the verdict of its environment.

    An episode that a limit ended before its environment judged it is `truncated`. The parts are the environment's own
    numbers of the episode.

    Raises:
        RewardError: an episode that its environment ended has no verdict, and `judged` says that it has.
    """

    judged: bool = True  # the environment gives a verdict with `done`; False: rewards alone, nothing is right or wrong

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        """Read the verdicts."""
        return [self._score(episode) for episode in group]

    def _score(self, episode: Trajectory) -> Score:
        if not self.judged:
            return Score(0.0, parts=episode.metrics)
        verdict = episode.verdict or ("truncated" if episode.cut_off else None)
        if verdict is None:
            raise RewardError(
                f"problem {episode.problem.id}: reward environment: the environment ended the episode without a "
                "verdict; expected Observation(done=True, verdict=...), or a reward that judges the text, or "
                "reward.judged=false, which learns from the rewards of turns alone"
            )
        return Score(None if verdict in ("timeout", "error") else 0.0, verdict, episode.metrics)


plugin = Environment
