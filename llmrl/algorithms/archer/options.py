"""Options of ArCHer, and the samples from which each of its parts learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrl.recipe.ranges import Amount
from llmrl.samples import Sample
from llmrl.types import Origin

ANSWERED: frozenset[Origin] = frozenset({"fresh", "replay"})
"""Samples whose turns an environment has answered."""
CURRENT: frozenset[Origin] = frozenset({"fresh", "proposal"})
"""Samples whose turns the policy has chosen as it stands."""


@dataclass(frozen=True, kw_only=True)
class ArCHerOptions:
    """Options; the defaults are those of the authors' code."""

    v_target: Literal["policy_sample", "expectile"] = "policy_sample"  # Q of the policy's turns, or of the data's best
    expectile: float = 0.9  # of v_target expectile: 0.5 is the mean of the data's turns, towards 1 the best
    actor_loss: Literal["pg", "ppo_clip", "awr", "pg_kl"] = "pg"
    gamma: float = 0.95  # discount of a turn
    target_tau: float = 0.1  # share of the critic that its copy takes after every optimiser step
    critic_warmup: int = 20  # first steps, in which the critic learns alone
    critic_steps: int = 50  # optimiser steps of the critic in a loop step
    actor_steps: int = 3  # the same of the policy, in each of its passes
    actor_epochs: int = 1  # passes of the policy over a step's turns
    token_baseline: bool = False  # subtract the advantage that the critic expects before each token
    baseline_over: Literal["tokens", "cells"] = "tokens"  # mean of its loss; cells: padding counts, as released
    whiten_advantages: bool = False  # mean 0 and variance 1 over the turns that the policy learns from
    epsilon: float = 0.2  # of ppo_clip: how far a ratio may move
    ratio_level: Literal["token", "turn"] = "token"  # of ppo_clip
    inv_temp: Amount = 1.0  # of awr: a turn weighs exp(inv_temp * advantage)
    max_weight: float = 20.0  # of awr: where that is cut
    kl_coef: float = 0.1  # of pg_kl: share of the divergence from the reference in the loss
    trunk: Literal["policy", "reference"] = "policy"  # of the critic; reference: frozen, and the heads learn alone
    head_width: int = 1  # of the heads' hidden layer, in widths of the trunk; 0: linear heads

    def __post_init__(self) -> None:
        for name, value in (("gamma", self.gamma), ("target_tau", self.target_tau)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} {value}: expected above 0 and at most 1")
        for name, value in (("expectile", self.expectile), ("epsilon", self.epsilon)):
            if not 0 < value < 1:
                raise ValueError(f"{name} {value}: expected above 0 and below 1")
        if not 0 <= self.kl_coef <= 1 or not self.max_weight > 0:
            raise ValueError(f"kl_coef {self.kl_coef}, max_weight {self.max_weight}: expected from 0 to 1, above 0")
        least = {"critic_steps": 1, "actor_steps": 1, "actor_epochs": 1, "critic_warmup": 0, "head_width": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least {bound}")
        if self.token_baseline and (self.actor_loss == "awr" or self.ratio_level == "turn"):
            raise ValueError("token_baseline: it differs from token to token; expected no awr, and ratio_level: token")
        if self.whiten_advantages and (self.actor_loss == "awr" or self.token_baseline):
            raise ValueError(
                "whiten_advantages: neither the weights of awr nor token_baseline know of it; expected none"
            )
        if self.ratio_level == "turn" and self.actor_loss != "ppo_clip":
            raise ValueError(f"ratio_level turn: actor_loss {self.actor_loss} has no ratio; expected ppo_clip")

    @property
    def samples_policy(self) -> bool:
        """True if turns of the policy as it stands are learned from."""
        return self.v_target == "policy_sample" or self.actor_loss != "awr"

    def bellman(self, row: Sample) -> bool:
        """True of a sample that Q learns from."""
        return row.origin in ANSWERED

    def values(self, row: Sample) -> bool:
        """True of a sample that V learns from."""
        return row.origin in (ANSWERED if self.v_target == "expectile" else CURRENT)

    def acts(self, row: Sample) -> bool:
        """True of a sample that the policy learns from."""
        return row.origin in (ANSWERED if self.actor_loss == "awr" else CURRENT)
