"""Scores of an answer's steps by a trained process model."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from llmrl.answers.steps import LEAST_WORDS, Separator, step_ends, steps
from llmrl.ops.scores import Aggregation, aggregate
from llmrl.recipe.ranges import Count
from llmrl.reward_models.card import read
from llmrl.reward_models.rows import AnswerRow
from llmrl.reward_models.scorer import ModelReward, ScorerOptions, unreadable
from llmrl.scoring.manager import GradingPool
from llmrl.types import Score, Trajectory

if TYPE_CHECKING:
    from llmrl.reward_models.model import Scored

SEPARATORS: dict[str, Separator] = {"\n": "line", "\n\n": "blank_line"}


@dataclass(frozen=True, kw_only=True)
class ProcessModelReward(ScorerOptions):
    """The probabilities, 0 to 1, that the steps of an answer are right, by a model of kind process.

    The text is cut into steps at `cut_at`, by default the separator that the model was trained with. They are rewarded
    in one of two ways. `value`: their aggregate is the value of the answer; the scores of steps are only logged.
    `steps`: the value is 0 and each step has its probability as a reward, which rewards many steps: shape it with
    `clip_delta`. Parts: `aggregate`, `steps`, `truncated`. There is no verdict. An answer without words has no step,
    and gets 0.

    Raises:
        CheckpointError: the folder is missing, corrupted or of another kind.
    """

    pays: Literal["value", "steps"] = "value"
    aggregation: Aggregation = "min"  # min, prod, geomean, last, mean, sum_logit
    cut_at: str | None = None  # for a model whose separator is a token that no policy writes
    least_words: Count | None = None  # of a step; None: 1 where lines are steps, else 5, so that none is for nothing

    def as_group_reward(self, pool: GradingPool) -> ModelReward:
        """Make the group reward; the folder's card is read now, the weights at the first score."""
        card = read(self.path, "process", weights=False)
        cut_at = card.separator if self.cut_at is None else self.cut_at

        def answer(one: Trajectory) -> AnswerRow:
            ends = self.ends(one.text, cut_at)
            said = [step.strip() for step in steps(one.text, ends)]
            return replace(self.answer(one), response="", steps=said)

        def judge(one: Trajectory, found: Scored) -> Score:
            from llmrl.reward_models.model import finite, sigmoid

            if not finite(found.logits):
                return unreadable("process_model", one, found, card.max_length)
            chances = [sigmoid(logit) for logit in found.logits if logit is not None]
            whole = aggregate(chances, self.aggregation) if chances else 0.0
            parts = {"aggregate": whole, "steps": float(len(chances)), "truncated": float(found.truncated)}
            reason = f"steps {' '.join(f'{chance:.2f}' for chance in chances[:12])}"
            if self.pays == "value":
                return Score(whole, parts=parts, steps=chances, reason=reason)
            ends = self.ends(one.text, cut_at)
            return Score(0.0, parts=parts, steps=chances, step_ends=ends, reason=reason)

        reward: ModelReward = self.reward("process_model", _steps, judge, answer)
        return reward

    def ends(self, text: str, separator: str) -> list[int]:
        """Ends of the steps of a text, in characters."""
        if separator in SEPARATORS:
            kind = SEPARATORS[separator]
            least = self.least_words or (1 if kind == "line" else LEAST_WORDS)
            return step_ends(text, kind, least)
        cuts = [match.end() for match in re.finditer(re.escape(separator), text)]
        return [*(cut for cut in cuts if cut < len(text)), len(text)] if text.strip() else []


def _steps(model: Any, answers: Any) -> list[Scored]:
    found: list[Scored] = model.steps(answers)
    return found


plugin = ProcessModelReward
