"""Dense rewards by a trained token model: changes of the probability that the answer is right."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from llmrl.ops.scores import running_mean
from llmrl.reward_models.card import read
from llmrl.reward_models.scorer import ModelReward, ScorerOptions, unreadable
from llmrl.scoring.manager import GradingPool
from llmrl.types import Score, Trajectory

if TYPE_CHECKING:
    from llmrl.reward_models.model import Scored


@dataclass(frozen=True, kw_only=True)
class TokenModelReward(ScorerOptions):
    """Change of the probability that the answer is right at each token, by a model of kind token.

    The mean of the model's numbers up to a token is the logit of that probability. It begins at 0.5, and the changes
    are dense rewards: their sum is the probability at the end, less 0.5, however long the answer is. They stand where
    the model's own tokens end in the text, whatever the policy's tokens are. The value is 0; `reward_model` makes one
    of the end alone. Parts: `probability`, `truncated`.

    Raises:
        CheckpointError: the folder is missing, corrupted or of another kind.
    """

    def as_group_reward(self, pool: GradingPool) -> ModelReward:
        """Make the group reward; the folder's card is read now, the weights at the first score."""
        card = read(self.path, "token", weights=False)

        def judge(one: Trajectory, found: Scored) -> Score:
            from llmrl.reward_models.model import finite, sigmoid

            if not finite(found.logits):
                return unreadable("token_model", one, found, card.max_length)
            means = running_mean([logit for logit in found.logits if logit is not None]).tolist()
            chances = [0.5, *map(sigmoid, means)]
            changes = [after - before for before, after in pairwise(chances)]
            parts = {"probability": chances[-1], "truncated": float(found.truncated)}
            said = bool(one.text)  # without text there is no token to reward
            return Score(
                0.0,
                parts=parts,
                steps=changes if said else [],
                step_ends=list(found.ends) if said else [],
                reason=f"right with {chances[-1]:.2f}",
            )

        reward: ModelReward = self.reward("token_model", _tokens, judge)
        return reward


def _tokens(model: Any, answers: Any) -> list[Scored]:
    found: list[Scored] = model.tokens(answers)
    return found


plugin = TokenModelReward
