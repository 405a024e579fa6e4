"""The episodes of a step under another reward: which verdicts change, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from llmrl import aio
from llmrl.errors import RecipeError
from llmrl.plugins import name_of
from llmrl.protocols import RewardPlugin
from llmrl.replaying.record import RecordedWorker
from llmrl.replaying.reopened import Reopened
from llmrl.rollout.sampler import Played
from llmrl.rollout.source import RolloutSource
from llmrl.samples import Sample
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.scoring.reserved import require_free
from llmrl.types import Score, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """An episode with its score in the record and that of another reward."""

    episode: Trajectory  # as recorded
    now: Score

    @property
    def before(self) -> Score:
        """The score in the record."""
        return self.episode.score or Score(None)

    @property
    def differs(self) -> bool:
        """True where the verdict or the value is another."""
        return self.before.verdict != self.now.verdict or self.before.value != self.now.value

    def to_json(self) -> dict[str, Any]:
        """Both scores as JSON has them."""
        return {
            "problem": self.episode.problem.id,
            "group": self.episode.group,
            "episode": self.episode.episode,
            "text": self.episode.text,
            "before": _as_json(self.before),
            "now": _as_json(self.now),
        }


def rescore(opened: Reopened, reward: RewardPlugin) -> tuple[list[Rescored], list[Sample]]:
    """Score the step's episodes by another reward; every episode, and the samples of the step by the new scores.

    Raises:
        RecipeError: the run plays no episodes, or learns from those of other steps, too.
        RewardError: the reward cannot be built, or gives other than a score for each episode.
    """
    recipe, source = opened.recipe, opened.source
    if not isinstance(source, RolloutSource):
        raise RecipeError(
            f"--reward: source {name_of('source', recipe.source)} does not learn from the episodes of the step alone; "
            "expected a run of source online, asynchronous or restarts"
        )
    pool = GradingPool(recipe.rollout.reward_workers, recipe.rollout.reward_timeout_s)
    try:
        scorer = as_group_reward(reward, pool)
        require_free(scorer, [draw.problem for draw, _ in source.drawn])
        worker = RecordedWorker(
            engine=cast(Any, None),
            chat=opened.chat,
            env=recipe.env,
            reward=scorer,
            options=recipe.rollout,
            seed=recipe.train.seed,
            recorded={},
        )
        played: list[Played] = [(draw, aio.wait(worker.scored(draw.problem, group))) for draw, group in source.drawn]
    finally:
        pool.close()
    pairs = [
        Rescored(episode=before, now=now.score or Score(None))
        for (_, old), (_, new) in zip(source.drawn, played, strict=True)
        for before, now in zip(old, new, strict=True)
    ]
    opened.normaliser.rewind()
    return pairs, opened.normaliser(source.samples_of(played, opened.record.step))


def changed(pairs: Sequence[Rescored]) -> list[Rescored]:
    """Episodes whose score is another, those with another verdict first."""
    return sorted((pair for pair in pairs if pair.differs), key=lambda pair: pair.before.verdict == pair.now.verdict)


def _as_json(score: Score) -> dict[str, Any]:
    return {
        "value": score.value,
        "verdict": score.verdict,
        "reason": score.reason,
        "answer": score.answer,
        "parts": dict(score.parts),
    }
