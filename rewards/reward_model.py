"""Score of an answer by a trained outcome model, verifier or token model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llmrl.errors import RewardError
from llmrl.reward_models.card import Card, Kind, read
from llmrl.reward_models.scorer import ModelReward, ScorerOptions, unreadable
from llmrl.scoring.manager import GradingPool
from llmrl.types import Score, Trajectory

if TYPE_CHECKING:
    from llmrl.reward_models.model import Scored

Scale = Literal["auto", "raw", "standard", "probability"]
KINDS: tuple[Kind, ...] = ("outcome", "verifier", "token")


@dataclass(frozen=True, kw_only=True)
class RewardModelReward(ScorerOptions):
    """The score of a reward model that `llmrl reward-model` made: kinds outcome, verifier and token.

    It reads the problem's messages, the policy's last text, and, where its template asks for them, the columns of the
    problem and `variables`. Parts: `truncated`, 1 where the model did not read the whole. There is no verdict, because
    a learned score proves nothing: keep a verifier beside it in a `mix`, with weight 0 if it shall only be logged.

    Raises:
        CheckpointError: the folder is missing, corrupted or of another kind.
        RewardError: a probability is asked of an outcome model, whose scores have no zero.
    """

    scale: Scale = "auto"  # auto: standard for outcome, else probability; standard: minus the mean, by the deviation

    def as_group_reward(self, pool: GradingPool) -> ModelReward:
        """Make the group reward; the folder's card is read now, the weights at the first score."""
        card = read(self.path, KINDS, weights=False)
        scale = self._scale(card)

        def judge(one: Trajectory, found: Scored) -> Score:
            from llmrl.reward_models.model import finite, sigmoid

            (logit,) = found.logits
            if logit is None or not finite(found.logits):
                return unreadable("reward_model", one, found, card.max_length)
            value = logit
            if scale == "probability":
                value = sigmoid(logit)
            elif scale == "standard" and card.calibration is not None:
                value = (logit - card.calibration.mean) / card.calibration.std
            parts = {"truncated": float(found.truncated)}
            return Score(value, parts=parts, reason=f"{card.kind} model: {logit:.4g}")

        reward: ModelReward = self.reward("reward_model", _sequences, judge)
        return reward

    def _scale(self, card: Card) -> Scale:
        scale = self.scale
        if scale == "auto":
            scale = "standard" if card.link == "identity" else "probability"
        if scale == "probability" and card.link == "identity":
            raise RewardError(
                f"reward_model: {self.path} is an outcome model: its scores compare answers and are no logits of a "
                "probability; expected scale standard or raw"
            )
        if scale == "standard" and (card.calibration is None or not card.calibration.std > 0):
            raise RewardError(
                f"reward_model: {self.path} has no calibration to make scores standard by; expected scale raw"
            )
        return scale


def _sequences(model: Any, answers: Any) -> list[Scored]:
    found: list[Scored] = model.sequences(answers)
    return found


plugin = RewardModelReward
