"""Step scores of a process reward as dense rewards whose sum no number of steps can raise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import isfinite
from typing import Any, Literal

from llmrl.answers.steps import steps
from llmrl.plugins import build
from llmrl.scoring.manager import GradingPool
from llmrl.scoring.wrapped import Shaped, lifted, tokens
from llmrl.types import Score, Trajectory

Form = Literal["pr", "clip", "delta", "clip_delta"]


@dataclass(frozen=True, kw_only=True)
class ClipDelta:
    """Dense rewards: `alpha` times the shaped scores s_1 ... s_K of an answer's steps, at each step's last token.

    `pr`: s_k, which rewards more steps. `clip`: min(s_k - eta, 0). `delta`: s_k - s_(k+1), s_k for the last but one,
    0 for the last. `clip_delta`: delta of the clipped scores. However many steps there are, the sum is at most 0 for
    clip and clip_delta and at most alpha for delta: a test tries random scores (Gao et al. 2024, arXiv 2410.15115).

    The value stays that of the inner reward. Correctness is a reward of its own, beside this one in a `mix`. Parts:
    `process` (the sum), `steps`, `tokens_per_step`, `score_mean`, `score_first`, `score_last`, `unpaid` (share of steps
    whose reward is 0) and `repeated_steps` (share that occurred before).
    """

    of: Mapping[str, Any] = field(
        default_factory=lambda: {"name": "steps_rule"}, hash=False
    )  # gives Score.steps and step_ends
    form: Form = "clip_delta"
    eta: float = 0.7  # the score from which a step costs nothing: the 20 % quantile at the start of training, say
    alpha: float = 0.1  # weight of the process beside a correctness of 0 or 1

    def __post_init__(self) -> None:
        build("reward", self.of, "of")
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"eta {self.eta}: expected 0 to 1, as the scores are")
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(f"alpha {self.alpha}: expected between 0 and 1, or steps would outweigh the answer")

    def as_group_reward(self, pool: GradingPool) -> Shaped:
        """Make the group reward around the inner one."""
        return Shaped(lifted(self.of, pool, "of"), self._shape)

    def rewards(self, scores: Sequence[float]) -> list[float]:
        """Shaped reward of each step; the bound is on their undiscounted sum."""
        return [self.alpha * reward for reward in shaped(scores, self.form, self.eta)]

    def _shape(self, trajectory: Trajectory, score: Score) -> Score:
        scores, ends, text = score.steps, score.step_ends, trajectory.text
        wrong = _wrong(scores, ends, len(text))
        if wrong or scores is None or ends is None:
            return Score(None, "error", reason=f"problem {trajectory.problem.id}: clip_delta: the reward in of {wrong}")
        rewards = self.rewards(scores)
        parts = {**score.parts, "process": sum(rewards), "steps": float(len(rewards))}
        if rewards:
            said = [" ".join(step.split()) for step in steps(text, list(ends))]
            parts |= {
                "tokens_per_step": tokens(trajectory) / len(rewards),
                "score_mean": sum(scores) / len(scores),
                "score_first": scores[0],
                "score_last": scores[-1],
                "unpaid": sum(reward == 0.0 for reward in rewards) / len(rewards),
                "repeated_steps": 1.0 - len(set(said)) / len(said),
            }
        return replace(score, steps=rewards, parts=parts)


def shaped(scores: Sequence[float], form: Form, eta: float) -> list[float]:
    """Shape the reward of each step, before alpha.

    Source: arXiv 2410.15115, whose clip and delta mechanisms these are, in this order.
    """
    if form in ("clip", "clip_delta"):
        scores = [min(score - eta, 0.0) for score in scores]
    if form in ("pr", "clip") or not scores:
        return list(scores)
    if len(scores) == 1:
        return [0.0]
    return [a - b for a, b in pairwise(scores[:-1])] + [scores[-2], 0.0]


def _wrong(scores: Sequence[float] | None, ends: Sequence[int] | None, length: int) -> str:
    """Describe the fault of the step scores; empty if there is none."""
    if scores is None or ends is None:
        return "gives no scores of steps; expected a process reward, such as {name: steps_rule}"
    if len(scores) != len(ends):
        return f"gives {len(scores)} scores and {len(ends)} ends of steps; expected one each"
    if not all(isfinite(score) and 0.0 <= score <= 1.0 for score in scores):
        return f"gives the scores {list(scores)[:8]}; expected 0 to 1, without which no bound holds"
    if list(ends) != sorted(ends) or any(not 0 <= end <= length for end in ends):
        return f"ends steps at {list(ends)[:8]}; expected ascending places in a text of {length} characters"
    return ""


plugin = ClipDelta
