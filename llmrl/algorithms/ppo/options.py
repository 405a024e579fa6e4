"""Options of PPO that cannot be, with what to write instead; all raise ValueError."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmrl.ops.ratio_options import check_delta, check_place

if TYPE_CHECKING:
    from llmrl.algorithms.ppo import PPO

CHANNELS = ("reward", "token_rewards", "kl")  # of what a token earns: at the end, where it stands, by its divergence


def check_bounds(options: PPO) -> None:
    """Each number by itself."""
    least = {"kl_coef": 0, "positive_nll_coef": 0, "entropy_coef": 0, "critic_warmup": 0}
    least |= {"num_ppo_epochs": 1, "minibatches": 1, "kl_horizon": 1}
    for name, bound in least.items():
        if not getattr(options, name) >= bound:
            raise ValueError(f"{name} {getattr(options, name)}: expected at least {bound}")
    shares = {"gamma": options.gamma, "lam": options.lam, "lam_critic": options.lam_critic}
    shares |= {f"discounts.{name}": value for name, value in (options.discounts or {}).items()}
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} {value}: expected from 0 to 1")
    for name in ("cliprange_value", "length_adaptive_lambda", "missing_eos_penalty", "kl_target"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(f"{name} {value}: expected above 0, or none")
    check_delta(options.delta, options.high)


def check_pairs(options: PPO) -> None:
    """Options that only make sense, or never do, beside each other."""
    if options.kl_coef:
        check_place(options.kl_estimator, options.kl_in_reward)
    if options.kl_target is not None and not options.kl_coef:
        raise ValueError("kl_target moves kl_coef by shares of it; expected kl_coef above 0")
    if options.warmup_explained_variance is not None and not options.critic_warmup:
        raise ValueError("warmup_explained_variance ends critic_warmup early; expected critic_warmup above 0")
    if options.discounts is None:
        return
    if unknown := sorted(set(options.discounts) - set(CHANNELS)):
        raise ValueError(f"discounts: unknown channel {', '.join(unknown)}; known: {', '.join(CHANNELS)}")
    if options.lam != 1 or options.lam_critic != 1 or options.length_adaptive_lambda is not None:
        raise ValueError(
            "discounts: one advantage of several discounts needs the rewards alone; expected lam: 1, "
            "lam_critic: 1 and no length_adaptive_lambda"
        )
    if options.bootstrap_truncated or options.whiten_rewards:
        raise ValueError(
            "discounts: one value, or one scale, cannot be split among channels; expected neither "
            "bootstrap_truncated nor whiten_rewards"
        )
