"""Options that every algorithm with a ratio of policies shares: how far it may go, and how engines are corrected."""

from __future__ import annotations

from dataclasses import dataclass

from llmrl.ops.mismatch import Correction, Mode


@dataclass(frozen=True, kw_only=True)
class Clipped:
    """The ratio of the policy to what it was before the step is clipped; the engine's probabilities are corrected."""

    epsilon: float = 0.2  # the ratio may fall to 1 - epsilon (arXiv 1707.06347); TRL's cliprange
    epsilon_high: float | None = None  # and rise to 1 + epsilon_high; None: epsilon. DAPO takes 0.28 (arXiv 2503.14476)
    importance_sampling_correction: Mode = "token_truncate"  # of engine against trainer
    importance_sampling_floor: float | None = None  # None: that of the mode, in llmrl.ops.mismatch.BOUNDS
    importance_sampling_cap: float | None = None

    def __post_init__(self) -> None:
        if not (self.epsilon >= 0 and self.high >= 0):  # so that NaN is refused too
            raise ValueError(f"epsilon {self.epsilon}, epsilon_high {self.high}: expected at least 0")
        _ = self.correction  # a bound that makes no sense is refused here, not at the first loss

    @property
    def high(self) -> float:
        """Bound on the rise of the ratio."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high

    @property
    def correction(self) -> Correction:
        """Correction of the engine's probabilities."""
        floor, cap = self.importance_sampling_floor, self.importance_sampling_cap
        return Correction(self.importance_sampling_correction, floor, cap)


@dataclass(frozen=True, kw_only=True)
class Repeated(Clipped):
    """The same, where a step's samples may be learned from more than once and in parts."""

    num_iterations: int = 1  # passes over a step's samples
    minibatches: int = 1  # optimiser steps in a pass

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_iterations < 1 or self.minibatches < 1:
            raise ValueError("num_iterations and minibatches must be at least 1")

    @property
    def repeats(self) -> bool:
        """True if a step moves the policy more than once, so that ratios differ from 1."""
        return self.num_iterations * self.minibatches > 1


def check_delta(delta: float | None, high: float) -> None:
    """Refuse a bound of the ratio that would cut what clipping leaves alone."""
    if delta is not None and not delta > 1 + high:
        raise ValueError(f"delta {delta}: expected above 1 + epsilon_high, which is {1 + high}")


def check_place(estimator: str, in_reward: bool) -> None:
    """Refuse a divergence whose gradient, where it stands, is not that of the divergence."""
    if in_reward != (estimator == "k1"):
        place = "reward" if in_reward else "loss"
        raise ValueError(
            f"kl_estimator {estimator} in the {place}: its gradient is not that of the divergence; expected "
            "kl_in_reward: true with k1, or kl_in_reward: false with k2 or k3"
        )
