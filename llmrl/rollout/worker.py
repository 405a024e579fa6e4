"""Run an episode; run a group and score it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

from llmrl.errors import RewardError
from llmrl.rollout.episode import EpisodePlayer
from llmrl.rollout.step_rewards import placed
from llmrl.rollout.stopwatch import Stopwatch
from llmrl.scoring.manager import GroupScorer, latency_metrics
from llmrl.scoring.verdicts import mark_truncated
from llmrl.trajectories import share_prompts
from llmrl.types import Completion, Problem, Sampling, Score, Trajectory

__all__ = ["RolloutWorker", "Stopwatch", "check_errors"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutWorker(EpisodePlayer):
    """Runs and scores episodes: engine, chat template, environment, reward and limits."""

    reward: GroupScorer
    seed: int
    breaks: ClassVar[str] = "environment"  # what is to be mended where an episode broke
    stopwatch: Stopwatch = field(default_factory=Stopwatch, compare=False)

    def timings(self) -> dict[str, float]:
        """Seconds of generating and of waiting for scores since the last call, and of scoring an item, for the log."""
        seconds = {f"time/{phase}": taken for phase, taken in self.stopwatch.read().items()}
        return seconds | latency_metrics(self.reward.latencies())

    async def run_episode(
        self, problem: Problem, group: str, episode: int, prefix_ids: Sequence[int] = ()
    ) -> Trajectory:
        """Play an episode, with the seeds of its name: see `EpisodePlayer.play`."""
        with self.stopwatch.during("generate"):
            return await self.play(
                problem, partial(self._sampling, group, episode), prefix_ids, group=group, episode=episode
            )

    async def run_group(self, problem: Problem, group: str, prefix_ids: Sequence[int] = ()) -> list[Trajectory]:
        """Run `num_generations` episodes of a problem at once and score them; all after one prefix, if any.

        Raises:
            RewardError: the reward gave more or fewer scores than episodes, or dense rewards of other tokens.
        """
        played = await asyncio.gather(
            *(self.run_episode(problem, group, episode, prefix_ids) for episode in range(self.options.num_generations))
        )
        return await self.scored(problem, played)

    async def scored(self, problem: Problem, played: Sequence[Trajectory]) -> list[Trajectory]:
        """Score the episodes of a group; those that broke get no value.

        Raises:
            RewardError: as `run_group`.
        """
        whole = [trajectory for trajectory in played if trajectory.status != "error"]
        with self.stopwatch.during("score"):
            given = await self.reward.score(whole) if whole else []
        if len(given) != len(whole):
            raise RewardError(
                f"problem {problem.id}: the reward gave {len(given)} scores for {len(whole)} episodes; expected one "
                "each, in their order"
            )
        scores = iter(given)
        return [
            replace(trajectory, score=placed(trajectory, mark_truncated(trajectory, next(scores)), self.chat))
            if trajectory.status != "error"
            else replace(trajectory, score=Score(None, "error", reason=trajectory.reason))
            for trajectory in share_prompts(played)
        ]

    async def complete(self, prompts: Sequence[Sequence[int]], names: Sequence[str]) -> list[Completion]:
        """Generate a completion of each prompt, which no environment sees; the names decide their seeds."""
        with self.stopwatch.during("generate"):
            return await asyncio.gather(
                *(
                    self.engine.generate(prompt, self._sampling(name, 0, 0))
                    for prompt, name in zip(prompts, names, strict=True)
                )
            )

    def _sampling(self, group: str, episode: int, turn: int) -> Sampling:
        """Sampling with a seed from group, episode and turn, so that any order and any rank give the same tokens."""
        digest = hashlib.blake2b(f"{self.seed}/{group}/{episode}/{turn}".encode(), digest_size=4).digest()
        return Sampling(
            temperature=self.options.temperature,
            top_p=self.options.top_p,
            top_k=self.options.top_k,
            min_p=self.options.min_p,
            max_tokens=self.options.max_completion_length,
            seed=int.from_bytes(digest, "big") >> 1,
        )


def check_errors(played: Sequence[Trajectory], allowed: float, player: str = "environment") -> None:
    """Stop where graders or environments fail too often to go on.

    Args:
        player: what plays episodes, and is to be mended where it broke.
    Raises:
        RewardError: the share of episodes without a score is above `allowed`; quotes one reason.
    """
    failed = [trajectory for trajectory in played if trajectory.earned is None]
    if played and len(failed) > allowed * len(played):
        first, score = failed[0], failed[0].score
        place = f"problem {first.problem.id}: "
        verdict, reason = (score.verdict or "no score", score.reason) if score else ("no score", first.reason)
        slow = ", raise rollout.reward_timeout_s" if verdict == "timeout" else ""
        ours = reason.startswith("TimeoutError") and "(rollout." in reason
        slow = ", raise the rollout.*_timeout_s that it names" if ours else slow
        raise RewardError(
            f"{len(failed)} of {len(played)} episodes could not be scored, above rollout.max_error_share {allowed:g}; "
            f"the first: {place}{verdict}: {reason.removeprefix(place)}. Mend the "
            f"{player if first.status == 'error' else 'reward'}{slow}, or raise rollout.max_error_share to "
            "learn from the others"
        )
