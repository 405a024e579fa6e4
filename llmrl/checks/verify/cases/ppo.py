"""The functions that answer `cases/ppo.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from llmrl.algorithms.ppo import PPO
from llmrl.batch import collate
from llmrl.checks.verify.cases.rows import actions_of, row
from llmrl.ops import gae as critic_ops
from llmrl.ops.gae import RunningMoments, adapted_kl, adaptive_lambda, gae, returns, whiten
from llmrl.ops.losses import clipped_squares
from llmrl.protocols import Forward
from llmrl.samples import Array

Given = Mapping[str, Any]
BARE: dict[str, Any] = {"kl_coef": 0.0, "whiten_advantages": False, "minibatches": 1}


def gae_basic(given: Given) -> dict[str, Any]:
    mask, answers = list(map(bool, given["mask"])), {}
    for lam in given["lambdas"]:
        advantages = gae(given["rewards"], given["values"], mask, gamma=given["gamma"], lam=lam)
        answers[f"lambda_{lam}"] = {
            "advantages": advantages.tolist(),
            "returns": _added(advantages, given["values"], mask),
        }
    return answers


def gae_multiturn_skip(given: Given) -> dict[str, Any]:
    mask = list(map(bool, given["mask"]))
    advantages = gae(given["rewards"], given["values"], mask, gamma=given["gamma"], lam=given["lam"])
    return {
        "advantages": advantages.tolist(),
        "returns": _added(advantages, given["values"], mask),
        "reinforce_returns": returns(given["rewards"], mask, gamma=given["gamma"]).tolist(),
    }


def gae_truncated_bootstrap(given: Given) -> dict[str, Any]:
    answers = {}
    for name, bootstrap in (("adv_no_bootstrap", False), ("adv_bootstrap", True)):
        algorithm = PPO(gamma=given["gamma"], lam=given["lam"], bootstrap_truncated=bootstrap, **BARE)
        after = [*given["values"][1:], given["bootstrap_value"]]
        sample = row(len(after), values=given["values"], next_values=after, truncated=True)
        answers[name] = actions_of(algorithm.credit([sample])[0].advantages)
    return answers


def kl_in_reward(given: Given) -> dict[str, Any]:
    """By the differences of the returns that a critic of 0 is to learn."""
    algorithm = PPO(**BARE | {"kl_coef": given["beta"]})
    logp = given["logp"]
    sample = row(
        len(logp), reward=given["score"], old_logprobs=logp, ref_logprobs=given["ref_logp"], values=[0.0] * len(logp)
    )
    aims = [*actions_of(algorithm.credit([sample])[0].returns), 0.0]
    return {"token_rewards": [a - b for a, b in pairwise(aims)], "sum": aims[0]}


def adaptive_kl(given: Given) -> dict[str, Any]:
    beta, answers = given["init"], []
    for seen in given["observed"]:
        beta = adapted_kl(beta, seen, given["target"], given["horizon"], given["n_steps"])
        answers.append(beta)
    return {"beta": answers}


def masked_whiten(given: Given) -> dict[str, Any]:
    masks = [list(map(bool, mask)) for mask in given["mask"]]
    seen = RunningMoments()
    for xs, on in zip(given["x"], masks, strict=True):
        seen.add([x for x, chosen in zip(xs, on, strict=True) if chosen])
    count = sum(map(sum, masks))
    return {
        "mean": seen.mean,
        "var_biased": seen.variance,
        "var_unbiased": seen.variance * count / (count - 1),
        "whitened_biased": [column.tolist() for column in whiten(given["x"], masks)],
        "whitened_unbiased": [column.tolist() for column in whiten(given["x"], masks, bessel=True)],
    }


def value_clip(given: Given, dtype: str) -> dict[str, Any]:
    now, old, aim = (torch.tensor(given[n], dtype=getattr(torch, dtype)) for n in ("values", "old_values", "returns"))
    terms = clipped_squares(now, old, aim, given["cliprange"])
    plain = 0.5 * (now - aim).square()
    return {
        "token": (2 * terms).tolist(),
        "loss": float(terms.mean()),
        "unclipped_loss": float(plain.mean()),
        "clipfrac": float((terms > plain).double().mean()),
    }


def length_adaptive_lambda(given: Given) -> dict[str, Any]:
    alpha, lengths = given["alpha"], given["lengths"]
    return {
        "lambdas": [adaptive_lambda(length, alpha) for length in lengths],
        "unclamped": [1 - 1 / (alpha * length) for length in lengths],
    }


def decoupled_gae(given: Given) -> dict[str, Any]:
    algorithm = PPO(gamma=given["gamma"], lam=given["lam_actor"], lam_critic=given["lam_critic"], **BARE)
    sample = row(len(given["values"]), reward=given["rewards"][-1], values=given["values"])
    (credited,) = algorithm.credit([sample])
    return {"actor_advantages": actions_of(credited.advantages), "critic_returns": actions_of(credited.returns)}


def vapo_positive_nll(given: Given, dtype: str) -> dict[str, Any]:
    """The likelihood term: the whole loss less the surrogate of the same rows. A wrong answer adds nothing."""
    right = given["logp_correct_responses"]
    said = [*right, [-3.0, -4.0]]
    kept = {}
    for mu in (0.0, given["mu"]):
        algorithm = PPO(**BARE | {"positive_nll_coef": mu})
        rows = [
            row(len(logp), episode=i, correct=i < len(right), sampled_logprobs=logp, values=[0.0] * len(logp))
            for i, logp in enumerate(said)
        ]
        batch = collate(algorithm.credit(rows), pack=True, dtype=getattr(torch, dtype))
        new = torch.tensor([[x for logp in said for x in (0.0, *logp)]], dtype=getattr(torch, dtype))
        kept[mu] = float((algorithm.loss(Forward(logprobs=new), batch).terms * batch.weights).sum())
    added = kept[given["mu"]] - kept[0.0]
    return {"nll": added / given["mu"], "total": given["policy_loss"] + added}


def explained_variance(given: Given) -> dict[str, Any]:
    errors = np.subtract(given["returns"], given["values"])
    return {"ev": critic_ops.explained_variance(RunningMoments().add(given["returns"]), RunningMoments().add(errors))}


def multi_gamma_returns(given: Given) -> dict[str, Any]:
    outcome, dense = zip(*given["rewards"], strict=True)
    gammas = dict(zip(("reward", "token_rewards"), given["gammas"], strict=True))
    algorithm = PPO(**BARE | {"lam": 1.0, "discounts": gammas})
    mask = [True] * len(outcome)
    sample = row(len(outcome), reward=outcome[-1], token_rewards=list(dense), values=given["values"])
    (credited,) = algorithm.credit([sample])
    each = [
        returns(part, mask, gamma=gamma).tolist() for part, gamma in zip((outcome, dense), given["gammas"], strict=True)
    ]
    return {
        "returns_per_type": [list(pair) for pair in zip(*each, strict=True)],
        "returns": actions_of(credited.returns),
        "advantages": actions_of(credited.advantages),
    }


def _added(advantages: Array, values: Sequence[float], mask: Sequence[bool]) -> list[float]:
    return [
        float(advantage) + value if on else 0.0 for advantage, value, on in zip(advantages, values, mask, strict=True)
    ]
