"""The forms that ship: every algorithm under the options that its papers are known for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from llmrl import plugins
from llmrl.checks.verify import turn_mdp
from llmrl.checks.verify.form import Form, Oracle
from llmrl.checks.verify.greedy_values import greedy_values
from llmrl.checks.verify.imitation import imitation
from llmrl.checks.verify.log_ratios import log_ratios
from llmrl.checks.verify.options import options
from llmrl.checks.verify.oracles.a_lol import a_lol
from llmrl.checks.verify.oracles.archer import archer
from llmrl.checks.verify.oracles.bcoder import bcoder
from llmrl.checks.verify.oracles.exploration import oreal, t1
from llmrl.checks.verify.oracles.group import grpo
from llmrl.checks.verify.oracles.ilql import ilql
from llmrl.checks.verify.oracles.imitation import bc
from llmrl.checks.verify.oracles.kto import kto
from llmrl.checks.verify.oracles.ppo import nlpo, ppo
from llmrl.checks.verify.oracles.preference import preference
from llmrl.checks.verify.oracles.pro import pro
from llmrl.checks.verify.oracles.reinforce import reinforce_pp, rloo
from llmrl.checks.verify.oracles.webrl import webrl
from llmrl.checks.verify.stored_answers import stored_answers
from llmrl.checks.verify.turn_chain import turn_chain

DR_GRPO: dict[str, Any] = {"loss_type": "dr_grpo", "max_completion_length": 4, "scale_rewards": "none"}
DAPO: dict[str, Any] = {"epsilon_high": 0.28, "delta": 10.0, "num_iterations": 2, "mask_truncated_completions": True}
GSPO: dict[str, Any] = {
    "loss_type": "grpo",
    "importance_sampling_level": "sequence",
    "epsilon": 3e-4,
    "epsilon_high": 4e-4,
    "num_iterations": 2,
    "importance_sampling_correction": "geometric_mask",
    "importance_sampling_floor": 0.8,
    "importance_sampling_cap": 1.25,
}
CISPO: dict[str, Any] = {
    "loss_type": "cispo",
    "num_iterations": 2,
    "entropy_coef": 1e-4,
    "off_policy_mask_threshold": 0.1,
}
TOP_ENTROPY: dict[str, Any] = {"top_entropy_quantile": 0.5, "epsilon_high": 0.28, "num_iterations": 2, "beta": 1e-3}
RLSP: dict[str, Any] = {"channels": {"correct": 0.8, "explore": 0.2}, "epsilon_high": 0.28, "num_iterations": 2}
IN_REWARD: dict[str, Any] = {"kl_in_reward": True, "kl_estimator": "k1", "scale_rewards": "batch", "beta": 0.01}
SEVERAL: dict[str, Any] = {
    "minibatches": 2,
    "importance_sampling_level": "product",
    "beta": 0.0,
    "epsilon": 0.5,
    "mask_truncated_completions": True,
}
PPO: dict[str, Any] = {"num_ppo_epochs": 2, "minibatches": 1, "cliprange_value": 0.5, "missing_eos_penalty": 0.5}
VC_PPO: dict[str, Any] = {"critic_warmup": 5, "lam": 0.9, "bootstrap_truncated": True, "minibatches": 2}
VAPO: dict[str, Any] = {
    "length_adaptive_lambda": 0.05,
    "epsilon_high": 0.28,
    "positive_nll_coef": 0.1,
    "kl_coef": 0.0,
    "critic_warmup": 5,
    "minibatches": 2,
    "whiten_rewards": True,
}
TURNS: dict[str, Any] = {"credit_level": "turn"}
CHANNELS: dict[str, Any] = {"lam": 1.0, "discounts": {"reward": 1.0, "token_rewards": 0.99}, "kl_coef": 0.01}


def forms() -> list[Form]:
    """List the forms that ship. Step sizes fit a token weight of 1/192; an answer weight of 1/48 takes a quarter."""
    return [
        _group("grpo", "grpo", grpo, 20.0, loss_type="grpo", beta=0.01, num_iterations=2),
        _group("dr_grpo", "grpo", grpo, 60.0, **DR_GRPO),
        _group("dapo", "grpo", grpo, 20.0, **DAPO),
        _group("gspo", "grpo", grpo, 20.0, **GSPO),
        _group("cispo", "grpo", grpo, 20.0, only_credit=False, **CISPO),
        _group("grpo_top_entropy", "grpo", grpo, 20.0, **TOP_ENTROPY),
        replace(_group("grpo_channels", "grpo", grpo, 20.0, **RLSP), dense=False),
        _group("grpo_k1", "grpo", grpo, 20.0, **IN_REWARD),
        _group("rloo", "rloo", rloo, 15.0, beta=0.01),
        _group("rloo_clip", "rloo", rloo, 15.0, **SEVERAL),
        _group("reinforce_pp", "reinforce_pp", reinforce_pp, 20.0, True, num_iterations=2),
        _group("reinforce_pp_baseline", "reinforce_pp", reinforce_pp, 20.0, True, baseline="group", delta=3.0),
        _group("t1", "t1", t1, 60.0, only_credit=False, train_k=3),
        _critic("ppo", 20.0, **PPO),
        _critic("vc_ppo", 20.0, **VC_PPO),
        _critic("vapo", 10.0, only_credit=False, **VAPO),
        _critic("ppo_channels", 20.0, **CHANNELS),
        replace(_critic("nlpo", 20.0, "nlpo", num_ppo_epochs=2, minibatches=1), oracle=nlpo, top_p=0.99),
        *_turns(),
        _kto("kto", 20.0, pairs=True, undesirable_weight=1.5, minibatches=2),
        _kto("kto_without_point", 40.0, loss_type="apo_zero_unpaired", beta=0.5),
        _preference("dpo", 4.0),
        _preference("cdpo", 4.0, label_smoothing=0.1, num_iterations=2, minibatches=2),
        _preference("robust_dpo", 4.0, loss_type="robust", label_smoothing=0.2),
        _preference("step_apo", 4.0, "step_apo"),
        _preference("hinge", 4.0, loss_type="hinge", advantage_margin=0.3, nll_coef=0.1),
        _preference("ipo", 4.0, loss_type="ipo", beta=0.2),
        _preference("simpo", 4.0, loss_type="simpo", beta=2.0),
        _preference("orpo", 4.0, loss_type="orpo", beta=1.0),
        _preference("cpl", 12.0, loss_type="cpl", gamma=0.9, label_smoothing=0.1),
        _preference("cpl_kl", 8.0, loss_type="cpl", reference_free=False, conservatism=0.75),
        _pro("pro", 1.0),
        _pro("pro_ranking", 4.0, nll_coef=0.0, num_iterations=2, minibatches=2),
        _oreal("oreal", 8.0),
        _oreal("oreal_paper", 6.0, variant="paper"),
        _oreal("oreal_no_rm", 6.0, token_weights="none"),
        _a_lol("a_lol", 6.0),
        _a_lol("a_lol_ref_free", 6.0, variant="a_lol_ref_free", priority="good_random", minibatches=2),
        _a_lol("a_lol_seq", 40.0, variant="a_lol_seq", baseline="critic", priority="none"),
        _a_lol("a_lol_kl", 12.0, variant="a_lol_kl", priority="none", beta=0.01),
        _a_lol("r_lol", 4.0, variant="r_lol", priority="all_priority"),
        _a_lol("gold", 4.0, variant="gold"),
        _ilql("ilql"),
        _ilql("ilql_awac", policy="awac", bootstrap_truncated=True, huber=0.3, cql_weight=0.1),
        _ilql("xql", value_loss="gumbel", gumbel_clip=5.0, gumbel_beta=0.5, policy="awac", minibatches=2),
        _ilql("fdvl_tv", value_loss="tv", lam=0.71, gamma=1.0),
        _ilql("fdvl_chi2", value_loss="chi2", policy="awac", awac_beta=8.0, max_weight=2.0),
        _ilql("mc_returns", monte_carlo=True, tau=0.9, gamma=0.9),
        _bcoder("bcoder"),
        _bcoder("bcoder_values", stage="values", gamma=0.9, alpha=0.5, max_reward=1.5),
        _bcoder("bcoder_passed", ground_truth="passed", alpha=0.5, gamma=0.9, nll_coef=0.1),
        *_archers(),
        *_webrls(),
        *_imitations(),
        *options(),
    ]


def _turns() -> list[Form]:
    """Forms whose credit goes turn by turn; equal scores teach where turns are discounted."""
    plus = _group("reinforce_pp_turns", "reinforce_pp", reinforce_pp, 20.0, True, turn_discount=0.9)
    made = [
        _group("grpo_turns", "grpo", grpo, 20.0, True, **TURNS, turn_discount=0.9, num_iterations=2),
        _group("rloo_turns", "rloo", rloo, 15.0, **TURNS, beta=0.01),
        plus,
        _critic("ppo_turns", 20.0, turn_discount=0.9, lam=0.9, bootstrap_truncated=True, minibatches=2),
    ]
    return [replace(form, turns=True, learns=turn_mdp.solved) for form in made]


def _a_lol(name: str, rate: float, **options: Any) -> Form:
    """The baseline is the group's unless another is given: random rows have no stored value."""
    algorithm = plugins.build("algorithm", {"name": "a_lol", "baseline": "group", **options}, name)
    return Form(
        name=name,
        algorithm=algorithm,
        oracle=a_lol,
        baseline=algorithm.least_generations > 1,
        only_credit=algorithm.variant != "a_lol_kl",
        only_ratios=algorithm.variant != "gold",
        rates={"policy": rate, "critic": 8.0},
    )


def _ilql(name: str, **options: Any) -> Form:
    algorithm = plugins.build("algorithm", {"name": "ilql", **options}, name)
    return Form(name=name, algorithm=algorithm, oracle=ilql, dense=True, learns=stored_answers)


def _bcoder(name: str, **options: Any) -> Form:
    """V at large errors, and imitation of ground truth: neither a ratio nor an advantage of nothing stops learning."""
    return Form(
        name=name,
        algorithm=plugins.build("algorithm", {"name": "bcoder", **options}, name),
        oracle=bcoder,
        dense=True,
        splits=True,
        truth=True,
        only_ratios=False,
        only_credit=False,
        learns=greedy_values,
    )


def _archers() -> list[Form]:
    """Forms of critics of turns: each target of V and loss of the policy at least once."""
    return [
        _archer("archer"),
        _archer("archer_baseline", token_baseline=True, baseline_over="cells", gamma=1.0),
        _archer("archer_expectile", v_target="expectile", actor_loss="awr", inv_temp=6.0, max_weight=5.0),
        _archer("archer_ppo", actor_loss="ppo_clip", token_baseline=True, v_target="expectile", expectile=0.7),
        _archer("archer_ppo_turn", actor_loss="ppo_clip", ratio_level="turn", actor_epochs=2, whiten_advantages=True),
        _archer("archer_kl", only_credit=False, actor_loss="pg_kl", kl_coef=0.02, gamma=0.9),
    ]


def _archer(name: str, only_credit: bool = True, **options: Any) -> Form:
    """With `pg_kl` the divergence has a gradient of mean 0 at the reference itself."""
    return Form(
        name=name,
        algorithm=plugins.build("algorithm", {"name": "archer", **options}, name),
        oracle=archer,
        turns=True,
        origins=True,
        only_credit=only_credit,
        learns=turn_chain,
    )


def _webrls() -> list[Form]:
    """Forms of WebRL; what is replayed, and the strength of the released form, depend on probabilities themselves."""
    every: dict[str, Any] = {"replay_low": 0.0, "replay_high": 1.0, "replay_ratio": 100.0}
    return [
        _webrl("webrl", **every),
        _webrl("webrl_mean", **every, normalize="mean_token", beta=5.0, lam=0.3, epochs=2, minibatches=2),
        _webrl("webrl_replay", only_ratios=False, replay_low=0.1, replay_high=0.4, replay_ratio=100.0),
        _webrl("webrl_released", only_ratios=False, form="released", **every),
    ]


def _webrl(name: str, only_ratios: bool = True, **options: Any) -> Form:
    return Form(
        name=name,
        algorithm=plugins.build("algorithm", {"name": "webrl", **options}, name),
        oracle=webrl,
        turns=True,
        splits=True,
        origins=True,
        only_ratios=only_ratios,
        learns=log_ratios,
    )


def _imitations() -> list[Form]:
    """Imitation of all answers alike, by reward, and of good ones."""
    return [
        _imitation("bc_none", _alike),
        _imitation("bc_reward", _reward, weights="reward"),
        _imitation("bc_filtered", _good, weights="filtered", min_reward=0.25, over="token", minibatches=1),
    ]


def _imitation(name: str, weight: Callable[[float], float], **options: Any) -> Form:
    algorithm = plugins.build("algorithm", {"name": "bc", **options}, name)
    return Form(name=name, algorithm=algorithm, oracle=bc, splits=True, learns=partial(imitation, weight=weight))


def _alike(_reward: float) -> float:
    return 1.0


def _reward(reward: float) -> float:
    return reward


def _good(reward: float) -> float:
    return float(reward > 0.25)


def _group(
    name: str, plugin: str, oracle: Oracle, rate: float, teaches: bool = False, only_credit: bool = True, **options: Any
) -> Form:
    """`teaches`: equal rewards do."""
    return Form(
        name=name,
        algorithm=plugins.build("algorithm", {"name": plugin, **options}, name),
        oracle=oracle,
        baseline=not teaches,
        only_credit=only_credit,
        dense=True,
        splits=True,
        rates={"policy": rate},
    )


def _critic(name: str, rate: float, plugin: str = "ppo", only_credit: bool = True, **options: Any) -> Form:
    return Form(
        name=name,
        algorithm=plugins.build("algorithm", {"name": plugin, **options}, name),
        oracle=ppo,
        dense=True,
        splits=True,
        only_credit=only_credit,
        rates={"policy": rate, "critic": 8.0},
    )


def _kto(name: str, rate: float, pairs: bool = False, **options: Any) -> Form:
    """Steps of pairs have a reference point, which stands in for that of mismatched answers."""
    algorithm = plugins.build("algorithm", {"name": "kto", **options}, name)
    return Form(name=name, algorithm=algorithm, oracle=kto, pairs=pairs, rates={"policy": rate})


def _preference(name: str, rate: float, plugin: str = "preference", **options: Any) -> Form:
    algorithm = plugins.build("algorithm", {"name": plugin, **options}, name)
    return Form(
        name=name,
        algorithm=algorithm,
        oracle=preference,
        baseline=True,
        splits=True,
        only_credit=False,
        only_ratios=bool(algorithm.needs()),
        rates={"policy": rate},
    )


def _pro(name: str, rate: float, **options: Any) -> Form:
    algorithm = plugins.build("algorithm", {"name": "pro", **options}, name)
    return Form(
        name=name,
        algorithm=algorithm,
        oracle=pro,
        baseline=True,
        splits=True,
        only_credit=False,
        only_ratios=False,
        rates={"policy": rate},
    )


def _oreal(name: str, rate: float, **options: Any) -> Form:
    return Form(
        name=name,
        algorithm=plugins.build("algorithm", {"name": "oreal", **options}, name),
        oracle=oreal,
        baseline=True,
        rates={"policy": rate, "critic": 8.0},
    )
