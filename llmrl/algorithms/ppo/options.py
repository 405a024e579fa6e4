"""Options of PPO, and which of them cannot be, with what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmrl.ops.ratio_options import Clipped, check_delta, check_place
from llmrl.ops.turns import CreditLevel

CHANNELS = ("reward", "token_rewards", "kl")  # of a token's reward: at the end, at the token, by its divergence


@dataclass(frozen=True, kw_only=True)
class PPOOptions(Clipped):
    """Options that `llmrl.algorithms.ppo` computes with.

    Raises:
        ValueError: a number out of its range, or options that never make sense beside each other.
    """

    delta: float | None = None  # what a ratio counts as at most; above 1 + epsilon_high. None: no bound (dual clip)
    cliprange_value: float | None = None  # how far a scalar critic may move in a step, in units of return; TRL took 0.2
    credit_level: CreditLevel = "turn"  # place of the rewards of turns: their turn's end; outcome: the episode's end
    gamma: float = 1.0  # discount of a token
    turn_discount: float = 1.0  # discount of a turn, besides gamma
    lam: float = 0.95  # of the policy's advantages: 0 trusts the critic, 1 the rewards
    lam_critic: float = 1.0  # of the critic's targets; below 1 it learns from itself, and a late reward never arrives
    length_adaptive_lambda: float | None = None  # alpha of VAPO, 0.05: in place of lam, 1 - 1 / (alpha * actions)
    discounts: Mapping[str, float] | None = field(default=None, hash=False)  # of each channel of reward; with lam: 1
    bootstrap_truncated: bool = False  # what a limit cut off goes on with the critic's value, not with 0
    missing_eos_penalty: float | None = None  # subtracted from the reward of what a token limit cut off
    whiten_advantages: bool = True  # over all action tokens of the step
    whiten_rewards: bool = False  # the same without moving the mean
    kl_coef: float = 1e-3  # weight of the divergence from the reference; 0 needs no reference model. TRL took 0.05
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"  # k1 in the reward; k3, k2 in the loss; any other pair is wrong
    kl_in_reward: bool = True
    kl_target: float | None = None  # nats an episode; kl_coef then follows what is seen (arXiv 1909.08593)
    kl_horizon: int = 10_000  # episodes until kl_coef has followed
    positive_nll_coef: float = 0.0  # weight of the likelihood of right answers; mu of VAPO, 0.1
    entropy_coef: float = 0.0  # weight of an entropy bonus
    num_ppo_epochs: int = 1  # passes over a step's samples, of both models
    minibatches: int = 4  # optimiser steps in a pass
    critic_warmup: int = 0  # steps, from the first, in which only the critic learns. VAPO took 50
    warmup_explained_variance: float | None = None  # ends the warm-up early, once the critic explains so much

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds()
        self._check_pairs()

    def _check_bounds(self) -> None:
        """Each number by itself."""
        least = {"kl_coef": 0, "positive_nll_coef": 0, "entropy_coef": 0, "critic_warmup": 0}
        least |= {"num_ppo_epochs": 1, "minibatches": 1, "kl_horizon": 1}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least {bound}")
        shares = {
            "gamma": self.gamma,
            "turn_discount": self.turn_discount,
            "lam": self.lam,
            "lam_critic": self.lam_critic,
        }
        shares |= {f"discounts.{name}": value for name, value in (self.discounts or {}).items()}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} {value}: expected from 0 to 1")
        for name in ("cliprange_value", "length_adaptive_lambda", "missing_eos_penalty", "kl_target"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} {value}: expected above 0, or none")
        check_delta(self.delta, self.high)

    def _check_pairs(self) -> None:
        """Options that only make sense, or never do, beside each other."""
        if self.kl_coef:
            check_place(self.kl_estimator, self.kl_in_reward)
        if self.kl_target is not None and not self.kl_coef:
            raise ValueError("kl_target moves kl_coef by shares of it; expected kl_coef above 0")
        if self.warmup_explained_variance is not None and not self.critic_warmup:
            raise ValueError("warmup_explained_variance ends critic_warmup early; expected critic_warmup above 0")
        if self.discounts is None:
            return
        if unknown := sorted(set(self.discounts) - set(CHANNELS)):
            raise ValueError(f"discounts: unknown channel {', '.join(unknown)}; known: {', '.join(CHANNELS)}")
        if self.lam != 1 or self.lam_critic != 1 or self.length_adaptive_lambda is not None:
            raise ValueError(
                "discounts: one advantage of several discounts needs the rewards alone; expected lam: 1, "
                "lam_critic: 1 and no length_adaptive_lambda"
            )
        if self.bootstrap_truncated or self.whiten_rewards:
            raise ValueError(
                "discounts: one value, or one scale, cannot be split among channels; expected neither "
                "bootstrap_truncated nor whiten_rewards"
            )
