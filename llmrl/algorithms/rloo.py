"""REINFORCE with a leave-one-out baseline: an answer against the mean of the others to the same problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llmrl.ops.credit import Over, average, by_group, counts, has_credit, leave_one_out
from llmrl.ops.kl import k3
from llmrl.ops.losses import at_level, clip_metrics, clipped_surrogate, entropy_metric, old_logprobs
from llmrl.ops.mismatch import require_scaled
from llmrl.ops.ratio_options import Repeated
from llmrl.ops.turns import TurnCredit
from llmrl.protocols import Column, Forward, Loss, Update
from llmrl.samples import Sample

if TYPE_CHECKING:
    from llmrl.batch import Batch


@dataclass(frozen=True, kw_only=True)
class RLOO(TurnCredit, Repeated):
    """Whole answers are the actions: an advantage multiplies the sum of log-probabilities (arXiv 2402.14740).

    The baseline does not depend on the answer it is compared with, so the gradient is unbiased; nothing is clipped
    while a step makes one update. With more it is, at `epsilon`, since the later ones are off-policy.
    """

    beta: float = 0.05  # weight of the divergence from the reference, as k1 in the reward; 0 needs no reference model
    importance_sampling_level: Literal["token", "sequence", "product"] = "token"  # TRL clips the product over a row
    mask_truncated_completions: bool = False  # what a limit cut off teaches nothing, but counts in the baseline

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta >= 0:
            raise ValueError(f"beta {self.beta}: expected at least 0")
        self.check_turns()

    @property
    def least_generations(self) -> int:
        """Episodes that a group needs: each is compared with the others."""
        return 2

    @property
    def over(self) -> Over:
        """The unit of the average: answers. A ratio that is a product over the sample gives it a single term."""
        return "sequence" if self.repeats and self.importance_sampling_level == "product" else "sequence_sum"

    def needs(self) -> frozenset[Column]:
        """The reference and the policy before the step where beta is not 0; the latter also with several updates."""
        columns: set[Column] = {"ref_logprobs", "old_logprobs"} if self.beta else set()
        return frozenset(columns | {"old_logprobs"} if self.repeats else columns)

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Each action token gets the advantage of its episode or turn and weighs 1 over the number of episodes.

        Episodes that nobody could judge (reward NaN), and truncated ones if they are masked, leave the objective and
        its denominator. Rows without a gradient are dropped once the weights are set.

        Raises:
            RecipeError: the engine's log-probabilities cannot be compared with a trainer's.
        """
        if self.importance_sampling_correction != "none":
            require_scaled(samples)
        episodes = self.advantages(by_group(samples), self.beta, _left_out)
        rows = [row for episode in episodes if counts(episode, self.mask_truncated_completions) for row in episode]
        return [row for row in average(rows, self.over) if has_credit(row)]

    def updates(self, step: int) -> Sequence[Update]:
        """The single update: the policy learns from `loss`."""
        return [Update("policy", self.loss, self.num_iterations, self.minibatches)]

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """`-advantage * log pi`, or the clipped surrogate with several updates, times the engine's correction.

        The value of the first says nothing, as log-probabilities are negative; its gradient does.
        """
        old = old_logprobs(new, batch)
        terms, metrics = -batch.advantages * new.logprobs, {}
        if self.repeats:
            now, before = at_level(new.logprobs, old, batch, self.importance_sampling_level)
            terms = clipped_surrogate(now, before, batch.advantages, self.epsilon, self.high)
            metrics = clip_metrics(now, before, batch.advantages, self.epsilon, self.high)
        terms, seen = self.correction.apply(terms, old, batch)
        metrics |= seen
        if "ref_logprobs" in batch.columns:
            metrics["kl"] = k3(new.logprobs.detach(), batch.ref_logprobs)
        return Loss(terms, metrics | entropy_metric(new))


def _left_out(groups: Sequence[Sequence[float]]) -> list[list[float]]:
    """Each reward less the mean of the others of its group."""
    return [leave_one_out(group) for group in groups]


plugin = RLOO
