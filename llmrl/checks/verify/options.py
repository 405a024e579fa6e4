"""Forms of single options: what no paper's form sets, compared with its equation, but not taught the toy."""

from __future__ import annotations

from typing import Any

from llmrl import plugins
from llmrl.checks.verify.form import Form, Oracle, Part
from llmrl.checks.verify.oracles.a_lol import a_lol
from llmrl.checks.verify.oracles.exploration import oreal, t1
from llmrl.checks.verify.oracles.group import grpo
from llmrl.checks.verify.oracles.ilql import ilql
from llmrl.checks.verify.oracles.imitation import bc
from llmrl.checks.verify.oracles.kto import kto
from llmrl.checks.verify.oracles.ppo import nlpo, ppo
from llmrl.checks.verify.oracles.preference import preference
from llmrl.checks.verify.oracles.reinforce import reinforce_pp, rloo

PARTS: tuple[Part, ...] = ("oracle", "differences", "invariances")

Options = dict[str, dict[str, Any]]
"""Options by the end of a form's name."""

TWICE: dict[str, Any] = {"num_iterations": 2}
NARROW: dict[str, Any] = {"epsilon": 0.1, "epsilon_high": 0.3}
"""Bounds of a ratio that differ, so that either in place of the other shows."""
CORRECTIONS: Options = {
    "none": {"importance_sampling_correction": "none"},
    "token_truncate": {"importance_sampling_correction": "token_truncate", "importance_sampling_floor": 0.7},
    "token_mask": {"importance_sampling_correction": "token_mask"},
    "token_mask_cap": {"importance_sampling_correction": "token_mask", "importance_sampling_cap": 1.2},
    "sequence_truncate": {"importance_sampling_correction": "sequence_truncate", "importance_sampling_floor": 0.4},
    "sequence_mask": {"importance_sampling_correction": "sequence_mask"},
    "sequence_mask_floor": {"importance_sampling_correction": "sequence_mask", "importance_sampling_floor": 0.5},
    "geometric_mask": {
        "importance_sampling_correction": "geometric_mask",
        "importance_sampling_floor": 0.7,
        "importance_sampling_cap": 1.3,
    },
    "k3_mask": {"importance_sampling_correction": "k3_mask", "importance_sampling_cap": 0.3},
}
GRPO: Options = {
    **{name: {**of_mode, **TWICE, **NARROW} for name, of_mode in CORRECTIONS.items()},
    "default": {},
    "k2": {"beta": 0.04, "kl_estimator": "k2", **TWICE},
    "kl_where_nothing_is_learned": {"beta": 0.04, "scale_rewards": "none", "mask_truncated_completions": True},
    "in_reward": {"kl_in_reward": True, "kl_estimator": "k1", "beta": 0.1, "scale_rewards": False},
    "entropy": {"entropy_coef": 0.01, "loss_type": "grpo"},
    "scaled": {"scale_rewards": True, "delta": 1.6, **NARROW, **TWICE},
    "batch": {"scale_rewards": "batch", "loss_average": "sequence_sum"},
    "constant": {"loss_type": "cispo", "loss_average": "constant", "max_completion_length": 7, **TWICE},
    "cispo_sequence": {
        "loss_type": "cispo",
        "importance_sampling_level": "sequence",
        "weight_floor": 0.9,
        "weight_cap": 1.1,
        **TWICE,
    },
    "cispo_floor": {"loss_type": "cispo", "weight_floor": 0.8, "weight_cap": 1.3, **TWICE},
    "sequence": {"importance_sampling_level": "sequence", "loss_average": "sequence_sum", "minibatches": 2, **NARROW},
    "sequence_token": {"loss_type": "grpo", "importance_sampling_level": "sequence_token", **TWICE, **NARROW},
    "off_policy": {"off_policy_mask_threshold": 0.05, "beta": 0.02, **TWICE},
    "some_tokens": {"top_entropy_quantile": 0.3, "loss_type": "grpo", "mask_truncated_completions": True},
}
RLOO: Options = {
    "default": {},
    "none": CORRECTIONS["none"],
    "token": {"minibatches": 2, **NARROW, "mask_truncated_completions": True},
    "sequence": {"importance_sampling_level": "sequence", **TWICE, **NARROW, **CORRECTIONS["sequence_mask"]},
    "product": {
        "importance_sampling_level": "product",
        "minibatches": 2,
        "epsilon": 0.4,
        "epsilon_high": 0.7,
        **CORRECTIONS["token_mask"],
    },
    "product_once": {"importance_sampling_level": "product", "beta": 0.0},
}
REINFORCE: Options = {
    "discounted": {"gamma": 0.9, "beta": 0.1, **NARROW},
    "baseline": {
        "baseline": "group",
        "delta": 1.5,
        "mask_truncated_completions": True,
        "gamma": 0.8,
        **TWICE,
        **NARROW,
    },
    "k3_mask": {**CORRECTIONS["k3_mask"], "beta": 0.0, "minibatches": 2},
}
REINFORCE_OF_TURNS: Options = {
    "turns_both": {"gamma": 0.9, "turn_discount": 0.7},
    "turns_outcome": {
        "credit_level": "outcome",
        "gamma": 0.9,
        "turn_discount": 0.7,
        "mask_truncated_completions": True,
    },
}
T1: Options = {
    "default": {},
    "k2": {"kl_estimator": "k2", "beta": 0.1, "train_k": 2, **TWICE, **NARROW},
    "k3": {"kl_estimator": "k3", "beta": 0.1, "entropy_coef": 0.0, "entropy_control": "none", "train_k": 4},
    "alike": {"train_k": 3, "reweight_subset": False, **CORRECTIONS["sequence_mask"], "minibatches": 2},
    "without_bonus": {"bonus_is_paid": False, "entropy_control": "adaptive", "beta": 0.0, **CORRECTIONS["token_mask"]},
}
PPO: Options = {
    "default": {},
    "k2": {"kl_in_reward": False, "kl_estimator": "k2", "kl_coef": 0.1, **NARROW},
    "k3": {"kl_in_reward": False, "kl_estimator": "k3", "kl_coef": 0.1, "entropy_coef": 0.01, "minibatches": 1},
    "discounted": {"gamma": 0.9, "lam": 0.8, "lam_critic": 0.6, "delta": 1.6, "bootstrap_truncated": True, **NARROW},
    "plain": {"gamma": 0.95, "whiten_advantages": False, "kl_coef": 0.05, "missing_eos_penalty": 0.3},
    "rewards": {"whiten_rewards": True, "cliprange_value": 0.2, "gamma": 0.9, **CORRECTIONS["token_mask"]},
    "adaptive": {"length_adaptive_lambda": 0.3, "gamma": 0.9, "bootstrap_truncated": True, "kl_coef": 0.0},
    "channels": {"lam": 1.0, "gamma": 0.8, "discounts": {"token_rewards": 0.6}, "kl_coef": 0.1},
    "imitation": {"positive_nll_coef": 0.3, "kl_coef": 0.0, **CORRECTIONS["sequence_truncate"]},
}
PPO_OF_TURNS: Options = {
    "turns_both": {"gamma": 0.9, "turn_discount": 0.7, "lam": 0.9, "bootstrap_truncated": True},
    "turns_outcome": {"credit_level": "outcome", "gamma": 0.9, "turn_discount": 0.7, "missing_eos_penalty": 0.4},
}
OREAL: Options = {
    "group": {"advantage": "group", "selection": "all", "minibatches": 2, "weight_threshold": 0.4},
    "top": {"token_weights": "top_fraction", "top_fraction": 0.4, "selection": "all"},
    "top_paper": {"token_weights": "top_fraction", "top_fraction": 0.3, "variant": "paper", "selection": "all"},
}
VERDICTS: Options = {"verdicts": {"right_above": 0.3, "selection": "all"}}
A_LOL: Options = {
    "stored": {"baseline": "stored", "epsilon": 0.3, "priority": "good_priority"},
    "stored_seq": {"baseline": "stored", "variant": "a_lol_seq", "epsilon": 0.2, "priority": "all_priority"},
    "critic": {"baseline": "critic", "variant": "a_lol_ref_free", "priority": "all_priority"},
    "r_lol": {"variant": "r_lol", "epsilon": 0.2, "priority": "good_random"},
    "gold": {"variant": "gold", "gold_floor": 0.3, "priority": "none"},
}
ILQL: Options = {
    "cut": {"policy": "awac", "max_weight": 2.0, "bootstrap_truncated": True, "gamma": 0.8, "tau": 0.9, "huber": 0.5},
    "gumbel": {"value_loss": "gumbel", "gumbel_clip": 0.7, "gumbel_beta": 2.0, "gamma": 0.8},
}
PREFERENCE: Options = {
    "free": {"reference_free": True, "label_smoothing": 0.2, "nll_coef": 0.3},
    "robust_margin": {"loss_type": "robust", "label_smoothing": 0.3, "advantage_margin": 0.5, "beta": 0.5},
    "simpo_smooth": {"loss_type": "simpo", "label_smoothing": 0.2, "nll_coef": 0.2, "simpo_gamma": 0.8},
    "orpo_alone": {"loss_type": "orpo", "nll_coef": 0.0, "beta": 0.3},
    "cpl_discounted": {"loss_type": "cpl", "gamma": 0.8, "conservatism": 0.3, "reference_free": False},
}
BC: Options = {
    "sequence": {"over": "sequence", "weights": "reward"},
    "filtered": {"weights": "filtered", "min_reward": 0.6},
}


def options() -> list[Form]:
    """Forms of the options that ship."""
    of_group: dict[str, Any] = {"dense": True, "splits": True}
    plain: dict[str, Any] = {"only_credit": False}
    return [
        *_forms("grpo", grpo, GRPO, **of_group, **plain),
        *_forms("rloo", rloo, RLOO, **of_group, baseline=True),
        *_forms("reinforce_pp", reinforce_pp, REINFORCE, **of_group),
        *_forms("reinforce_pp", reinforce_pp, REINFORCE_OF_TURNS, **of_group, turns=True),
        *_forms("t1", t1, T1, **of_group, **plain),
        *_forms("ppo", ppo, PPO, **of_group, **plain),
        *_forms("ppo", ppo, PPO_OF_TURNS, **of_group, turns=True),
        *_forms("nlpo", nlpo, {"narrow": {**NARROW, "gamma": 0.9, "cliprange_value": 0.3}}, dense=True, top_p=0.99),
        *_forms("oreal", oreal, OREAL),
        *_forms("oreal", oreal, VERDICTS, verdicts=False),
        *_forms("a_lol", a_lol, A_LOL, only_ratios=False, **plain),
        *_forms("ilql", ilql, ILQL, dense=True),
        *_forms("preference", preference, PREFERENCE, only_ratios=False, **plain),
        *_forms("kto", kto, {"weighed": {"desirable_weight": 0.7, "undesirable_weight": 1.3}}, mismatched=True),
        *_forms("kto", kto, {"verdicts": {"desirable_above": 0.3, "beta": 0.5}}, mismatched=True, verdicts=False),
        *_forms("bc", bc, BC, only_ratios=False, **plain),
    ]


def _forms(plugin: str, oracle: Oracle, of: Options, **facts: Any) -> list[Form]:
    return [
        Form(
            name=f"{plugin}: {name}",
            algorithm=plugins.build("algorithm", {"name": plugin, **own}, plugin),
            oracle=oracle,
            parts=PARTS,
            **facts,
        )
        for name, own in of.items()
    ]
