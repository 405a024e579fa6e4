"""The functions that answer `cases/ilql.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch

from llmrl.algorithms.ilql import ILQL
from llmrl.batch import collate
from llmrl.checks.verify.cases.rows import row
from llmrl.checks.verify.stored_answers import golden
from llmrl.ops.implicit_values import chi_square, chi_square_conjugate, expectile, gumbel, total_variation
from llmrl.ops.perturbation import perturbed
from llmrl.protocols import Forward

Given = Mapping[str, Any]


def ilql_token(given: Given, dtype: str) -> dict[str, Any]:
    algorithm = ILQL(gamma=given["gamma"], tau=given["tau"], cql_weight=given["cql_weight"])
    n = len(given["reward"])
    (credited,) = algorithm.credit([row(n, reward=given["reward"][-1])])
    batch = collate([credited], pack=False, dtype=getattr(torch, dtype))

    def column(numbers: list[float]) -> torch.Tensor:
        return torch.tensor([[0.0, *numbers]], dtype=batch.rewards.dtype)

    q, v, ce = {name: column(given[name]) for name in ("q1", "q2")}, column(given["v"]), column(given["ce"])
    new = Forward(
        heads={"v": v, **q},
        next_heads={"v": torch.zeros_like(v)},
        head_logprobs={"q1": -ce, "q2": -ce},
        action_values=torch.minimum(column(given["target_q1"]), column(given["target_q2"])),
    )
    loss = algorithm.critic_loss(new, batch)
    decode = given["decode"]
    logprobs = torch.tensor(decode["pi_beta"], dtype=batch.rewards.dtype).log()
    advantages = torch.tensor(decode["q"], dtype=batch.rewards.dtype) - decode["v"]
    return {
        "bellman_target": (q["q1"] - loss.metrics["td_error"])[0, 1:].tolist(),
        "q_loss": float(loss.metrics["loss/q"][0, 1:].mean()),
        "v_loss": float(loss.metrics["loss/v"][0, 1:].mean()),
        "cql": float(loss.metrics["loss/cql"][0, 1:].mean()),
        "total": float((loss.terms * batch.value_weights).sum()),
        "decode_probs": perturbed(logprobs, advantages, decode["beta"]).softmax(-1).tolist(),
    }


def mc_q_loss(given: Given, dtype: str) -> dict[str, Any]:
    """Rewards of tokens whose returns, with the algorithm's discount, are those of the case; the losses of one head."""
    algorithm = ILQL(gamma=0.99, monte_carlo=True, cql_weight=given["cql_weight"])
    came = [*given["returns"], 0.0]
    earned = [now - 0.99 * after for now, after in pairwise(came)]
    (credited,) = algorithm.credit([row(len(earned), reward=0.0, token_rewards=earned)])
    batch = collate([credited], pack=False, dtype=getattr(torch, dtype))
    numbers = torch.tensor([given["q_logits"]], dtype=batch.rewards.dtype)
    chosen = torch.tensor(given["token_ids"])[None, :, None]
    pairs = (numbers, numbers.log_softmax(-1))
    own, spread = (torch.nn.functional.pad(x.gather(-1, chosen)[..., 0], (1, 0)) for x in pairs)
    zero = torch.zeros_like(own)
    new = Forward(
        heads={"v": zero, "q1": own, "q2": batch.rewards},
        next_heads={"v": zero},
        head_logprobs={"q1": spread, "q2": zero},
        action_values=zero,
    )
    loss = algorithm.critic_loss(new, batch)
    found = {"q_loss": loss.metrics["loss/q"], "cql": loss.metrics["loss/cql"], "total": loss.terms}
    return {name: float((terms * batch.value_weights).sum()) for name, terms in found.items()}


def implicit_value(given: Given, dtype: str) -> dict[str, Any]:
    q = torch.tensor(given["q"], dtype=getattr(torch, dtype))
    beta, clip, gap = given["gumbel_beta"], given["clip"], q - given["v"]

    def least(term: Any) -> float:
        wide = torch.tensor(given["q"], dtype=torch.float64)
        return golden(lambda v: float(term(wide - v).mean()), 0.0, 2.0)

    exponents = gumbel(gap, beta, clip)
    return {
        "expectile_argmin": {str(tau): round(least(lambda y, t=tau: expectile(y, t)), 7) for tau in given["tau"]},
        "gumbel_argmin": round(least(lambda y: gumbel(y, beta, clip)), 7),
        "chi2_argmin": {str(lam): round(least(lambda y, m=lam: chi_square(y, m)), 6) for lam in given["lam"]},
        "tv_argmin": {str(lam): round(least(lambda y, m=lam: total_variation(y, m)), 7) for lam in (0.7, 0.9)},
        "loss_at_v": {
            "expectile_0_7": float(expectile(gap, 0.7).mean()),
            "gumbel": float(exponents.mean()),
            "gumbel_rescaled": float((exponents * torch.exp(-(gap / beta).max().clamp(min=-1))).mean()),
            "chi2_0_7": float(chi_square(gap, 0.7).mean()),
            "tv_0_7": float(total_variation(gap, 0.7).mean()),
        },
    }


def chi2_conjugate_trap(given: Given, dtype: str) -> dict[str, Any]:
    y = torch.tensor(given["y"], dtype=getattr(torch, dtype))
    x = (1 + y / 2).clamp(min=0)  # where x * y - (x - 1)^2 is largest on x at least 0
    return {"surrogate": chi_square_conjugate(y).tolist(), "exact": (x * y - (x - 1).square()).tolist()}
