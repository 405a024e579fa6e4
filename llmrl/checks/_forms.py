"""The forms that ship: every algorithm under the options that its papers are known for."""

from __future__ import annotations

from llmrl import plugins
from llmrl.checks._form import Form
from llmrl.checks._oracle_group import grpo
from llmrl.checks._oracle_ppo import ppo
from llmrl.checks._oracle_reinforce import reinforce_pp, rloo


def _group(name: str, rate: float, only_credit: bool = True, **options: object) -> Form:
    return Form(
        name=name,
        algorithm=plugins.build("algorithm", {"name": "grpo", **options}, name),
        oracle=grpo,
        baseline=True,
        only_credit=only_credit,
        rates={"policy": rate},
    )


def forms() -> list[Form]:
    """All of them. The step sizes are for a token that weighs 1/192."""
    return [
        _group("grpo", 20.0, loss_type="grpo", beta=0.01, num_iterations=2),
        _group("dr_grpo", 60.0, loss_type="dr_grpo", max_completion_length=4, scale_rewards="none"),
        _group("dapo", 20.0, epsilon_high=0.28, delta=10.0, num_iterations=2, mask_truncated_completions=True),
        _group(
            "gspo",
            20.0,
            loss_type="grpo",
            importance_sampling_level="sequence",
            epsilon=3e-4,
            epsilon_high=4e-4,
            num_iterations=2,
            importance_sampling_correction="geometric_mask",
            importance_sampling_floor=0.8,
            importance_sampling_cap=1.25,
        ),
        _group(
            "cispo",
            20.0,
            loss_type="cispo",
            num_iterations=2,
            entropy_coef=1e-4,
            off_policy_mask_threshold=0.1,
            only_credit=False,
        ),
        _group("grpo_k1", 20.0, beta=0.01, kl_in_reward=True, kl_estimator="k1", scale_rewards="batch"),
        *_reinforce(),
        *_critics(),
    ]


def _reinforce() -> list[Form]:
    """Without a critic and without a deviation of the group."""
    several = {"minibatches": 2, "importance_sampling_level": "product", "beta": 0.0, "epsilon": 0.5}
    forms = {
        "rloo": (rloo, 15.0, {"name": "rloo", "beta": 0.01}),
        "rloo_clip": (rloo, 15.0, {"name": "rloo", "mask_truncated_completions": True, **several}),
        "reinforce_pp": (reinforce_pp, 20.0, {"name": "reinforce_pp", "beta": 0.001, "num_iterations": 2}),
        "reinforce_pp_baseline": (reinforce_pp, 20.0, {"name": "reinforce_pp", "baseline": "group", "delta": 3.0}),
    }
    return [
        Form(
            name=name,
            algorithm=plugins.build("algorithm", options, name),
            oracle=oracle,
            baseline=oracle is rloo,  # whitening moves a group that says nothing, as the paper has it
            rates={"policy": rate},
        )
        for name, (oracle, rate, options) in forms.items()
    ]


def _critics() -> list[Form]:
    """PPO as it was, and with its repairs for long answers."""
    vapo = {
        "length_adaptive_lambda": 0.05,
        "epsilon_high": 0.28,
        "positive_nll_coef": 0.1,
        "kl_coef": 0.0,
        "critic_warmup": 5,
        "minibatches": 2,
        "whiten_rewards": True,
    }
    return [
        _critic("ppo", 20.0, num_ppo_epochs=2, minibatches=1, cliprange_value=0.5, missing_eos_penalty=0.5),
        _critic("vc_ppo", 20.0, critic_warmup=5, lam=0.9, bootstrap_truncated=True, minibatches=2),
        _critic("vapo", 10.0, only_credit=False, **vapo),
        _critic("ppo_channels", 20.0, lam=1.0, discounts={"reward": 1.0, "token_rewards": 0.99}, kl_coef=0.01),
    ]


def _critic(name: str, rate: float, only_credit: bool = True, **options: object) -> Form:
    return Form(
        name=name,
        algorithm=plugins.build("algorithm", {"name": "ppo", **options}, name),
        oracle=ppo,
        only_credit=only_credit,
        rates={"policy": rate, "critic": 8.0},
    )
