"""Likeness of the last picture of an episode to a goal in words, by CLIP."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from llmrl.errors import DataError, RewardError
from llmrl.recipe.ranges import Share
from llmrl.scoring.by_model import ByModel
from llmrl.scoring.manager import GradingPool
from llmrl.types import Score, Trajectory
from llmrl.vision.pictures import last_picture

if TYPE_CHECKING:
    from llmrl.vision.similarity import Contrastive


@dataclass(frozen=True, kw_only=True)
class VlmRm:
    """Similarity of an episode's last picture to a goal, -1 to 1; with a baseline, what tells both apart counts.

    The picture is the last that the environment showed (`images` or `picture` of its messages), else the problem's.
    An episode without a picture is an `error` without a value. No verdict: likeness is no right or wrong.

    Raises:
        RewardError: the model does not load, or no goal is given.

    Source: Rocamonde et al. 2023 (arXiv 2310.12921); alpha and baseline are its goal-baseline regularization.
    """

    path: str  # a folder or a name on the hub, of a model with one space for pictures and texts
    goal: str | None = None  # what the picture shall show
    goal_column: str | None = None  # of `info`, whose text is the goal of a problem
    baseline: str | None = None  # what it usually shows
    alpha: Share = 0.0  # how much of what goal and baseline share is taken away
    device: str | None = None  # None: the first GPU, or the CPU

    def __post_init__(self) -> None:
        if (self.goal is None) == (self.goal_column is None):
            raise ValueError("expected either goal (a text) or goal_column (of the data)")
        if self.alpha and not self.baseline:
            raise ValueError(f"alpha {self.alpha:g}: expected a baseline, a text of what pictures usually show")
        if self.baseline and self.baseline == self.goal:
            raise ValueError("baseline: expected another text than the goal")

    def as_group_reward(self, pool: GradingPool) -> VlmRmReward:
        """Make the group reward; the model loads at the first score."""
        return VlmRmReward("vlm_rm", options=self)


@dataclass
class VlmRmReward(ByModel):
    """Compares the pictures of a group with its goal, off the event loop; not bound by `rollout.reward_timeout_s`."""

    options: VlmRm = field(kw_only=True)

    def judged(self, episode: Trajectory) -> Score:
        from llmrl.vision.similarity import similarity

        options, problem = self.options, episode.problem
        goal = options.goal if options.goal_column is None else problem.info.get(options.goal_column)
        picture = last_picture(episode)
        if not isinstance(goal, str) or not goal.strip():
            return _error(episode, f"no text in info[{options.goal_column!r}] to compare with")
        if picture is None:
            return _error(episode, "the episode shows no picture")
        try:
            seen = self._model.pictures([picture])
            told = self._model.texts([goal, *([options.baseline] if options.baseline else [])])
            value = float(similarity(seen, told[0], told[1] if options.baseline else None, options.alpha)[0])
        except DataError as error:
            return _error(episode, str(error))
        cosine = float(similarity(seen, told[0], None, 0.0)[0])
        return Score(value, None, {"cosine": cosine}, reason=f"likeness {value:.3f} to {goal[:80]!r}")

    @cached_property
    def _model(self) -> Contrastive:
        import torch

        from llmrl.errors import CheckpointError
        from llmrl.vision.similarity import Contrastive

        try:
            return Contrastive(
                self.options.path, self.options.device or ("cuda" if torch.cuda.is_available() else "cpu")
            )
        except CheckpointError as error:
            raise RewardError(f"vlm_rm: {error}") from error


def _error(episode: Trajectory, said: str) -> Score:
    return Score(None, "error", reason=f"problem {episode.problem.id}: vlm_rm: {said}")


plugin = VlmRm
