"""Score by a reward model that reads principles, a few of which are drawn for each group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from llmrl.answers.language import language
from llmrl.ops.salmon import shaped
from llmrl.recipe.ranges import Count, Seed
from llmrl.reward_models.card import read as read_card
from llmrl.reward_models.principles import GUARDS, Principle, draw, read, weights
from llmrl.reward_models.scorer import ModelReward, ScorerOptions, unreadable
from llmrl.scoring.manager import GradingPool
from llmrl.scoring.wrapped import tokens
from llmrl.types import Score, Trajectory

if TYPE_CHECKING:
    from llmrl.reward_models.model import Scored

Shown = Sequence[tuple[Principle, bool]]
"""The principles that a group is judged by; True: turned round."""


@dataclass(frozen=True, kw_only=True)
class Salmon(ScorerOptions):
    """Reward RM(prompt, answer, principles) + `length_scale` min(c tokens / 1024, 0.8) + `no_stop` if a limit ended it.

    `path` is an outcome model whose template reads `principles`, such as `recipes/reward_models/salmon.yaml` trains on
    the rows of `llmrl data salmon`. For each group `k` principles are drawn by their weights, without replacement, by a
    generator that depends on `seed` and the group alone: answers that are compared with each other are judged alike,
    and a resumed run draws the same. A problem whose `info` has `reasoning` or `red_teaming` draws principles about
    these more often, and c is `length_reasoning` for the first.

    Parts: `rm`, `length_bonus`, `stop`, `language`, and `principle/<name>`: 1 where it was shown, -1 negated, else 0.
    No verdict. An answer that the model could not read whole has no value: the prompt stands behind it in the
    template, so that the answer would be cut off.

    Raises:
        CheckpointError: the folder is no outcome model.
        DataError: the principles cannot be read.
        ValueError: fewer than `k` principles have a weight above 0.

    Source: Sun et al. 2023 (arXiv 2310.05910), stage of reinforcement learning, with the constants of its code; the
    bonus for the language of the prompt at this stage is our own.
    """

    principles: str | None = None  # a .jsonl file of name, text, opposite, weight; None: the few that ship
    k: Count = 3  # principles a group
    negate: float = 0.0  # probability that one is turned round
    guards: bool = True  # also show principles against boasting, listing and rambling
    length: float = 1.0  # c of most problems
    length_reasoning: float = -0.4  # c where `info` has `reasoning`
    length_scale: float = 5.0
    no_stop: float = -6.0
    language_bonus: float = 0.0  # where the prompt is in another language than English, and the answer in that
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.k < 1 or not 0.0 <= self.negate <= 1.0:
            raise ValueError(f"k {self.k}, negate {self.negate}: expected at least 1, and 0 to 1")
        if self.no_stop > 0 or self.length_scale < 0:
            raise ValueError(
                f"no_stop {self.no_stop}, length_scale {self.length_scale}: expected at most 0, at least 0"
            )

    def as_group_reward(self, pool: GradingPool) -> ModelReward:
        """Make the group reward; the card and the principles are read now, the weights at the first score."""
        card = read_card(self.path, ("outcome",), weights=False)
        known = read(self.principles)
        draw(known, weights(known, {}), self.k, Random(0))  # too few of them is an error now, not in the first step

        def answer(one: Trajectory) -> Any:
            sentences = [principle.shown(negated) for principle, negated in self.shown(one, known)]
            read_too = {"principles": [*(GUARDS if self.guards else ()), *sentences]}
            plain = self.answer(one)
            return replace(plain, variables={**plain.variables, **read_too})

        def judge(one: Trajectory, found: Scored) -> Score:
            from llmrl.reward_models.model import finite

            (logit,) = found.logits
            if found.truncated or logit is None or not finite(found.logits):
                return unreadable("salmon", one, found, card.max_length)
            parts = self.paid(one, logit)
            drawn = {principle.name: -1.0 if negated else 1.0 for principle, negated in self.shown(one, known)}
            marks = {f"principle/{principle.name}": drawn.get(principle.name, 0.0) for principle in known}
            return Score(sum(parts.values()), parts={**parts, **marks}, reason=f"by {', '.join(drawn)}")

        return ModelReward("salmon", self.scorer(), _sequences, answer, judge)

    def shown(self, one: Trajectory, known: Sequence[Principle]) -> Shown:
        """Draw the principles of the trajectory's group, each shown as it is or negated."""
        random = Random(f"{self.seed}/{one.group or one.problem.id}")
        drawn = draw(known, weights(known, one.problem.info), self.k, random)
        return [(principle, random.random() < self.negate) for principle in drawn]

    def paid(self, one: Trajectory, score: float) -> dict[str, float]:
        """Parts whose sum is the value, given the reward model's score."""
        coefficient = self.length_reasoning if one.problem.info.get("reasoning") else self.length
        parts = shaped(
            score, tokens(one), not one.truncated, coefficient, scale=self.length_scale, no_stop=self.no_stop
        )
        asked = language("\n".join(str(message.get("content", "")) for message in one.problem.messages))
        foreign = asked not in (None, "en") and language(one.text) == asked
        return {**parts, "language": self.language_bonus if foreign else 0.0}


def _sequences(model: Any, answers: Any) -> list[Scored]:
    found: list[Scored] = model.sequences(answers)
    return found


plugin = Salmon
