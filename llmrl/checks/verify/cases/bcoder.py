"""The function that answers `cases/bcoder.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from llmrl.algorithms.bcoder import BCoder
from llmrl.batch import collate
from llmrl.checks.verify.cases.rows import row
from llmrl.ops.dueling import lead, rank_scores
from llmrl.ops.heads import Capped
from llmrl.ops.logprobs import peak_logprobs
from llmrl.protocols import Forward

Given = Mapping[str, Any]


def bcoder(given: Given, dtype: str) -> dict[str, Any]:
    kind = getattr(torch, dtype)
    logits, ckpt = (torch.tensor(given[name], dtype=kind) for name in ("logits_theta", "logits_ckpt"))
    outputs = torch.tensor(given["v_phi"], dtype=kind) + torch.tensor(given["v_residual"], dtype=kind)
    values = Capped(high=given["r_max"]).values(outputs[:, None])
    advantages = lead(logits, logits.amax(-1, keepdim=True), given["alpha"])
    first = torch.zeros(3, dtype=torch.int64)
    likeliest = peak_logprobs(ckpt, lambda states: states, first, first)[3]
    answers = {}
    for name in ("gt", "gen"):
        answers[name] = _learned(given, name, logits, likeliest, values)
    return {
        "advantage": advantages.tolist(),
        "v_capped": values.tolist(),
        "q": (advantages + values[:, None]).tolist(),
        "target_action": likeliest.tolist(),
        **answers,
    }


def _learned(given: Given, name: str, logits: Tensor, likeliest: Tensor, values: Tensor) -> dict[str, Any]:
    """Q, targets and losses of an answer, by the algorithm itself."""
    truth = name == "gt"
    options = {"advantage_coef": given["beta_adv"], "nll_coef": given["beta_ce"], "alpha": given["alpha"]}
    algorithm = BCoder(gamma=given["gamma"], max_reward=given["r_max"], **options)
    chosen, entropy, peak, _, other = peak_logprobs(
        logits, lambda states: states, torch.tensor(given[f"actions_{name}"]), likeliest
    )
    answer = row(
        3,
        reward=given[f"reward_{name}"][-1],
        numbers={"is_ground_truth": float(truth)},
        ref_peak_ids=likeliest.tolist(),
        old_logprobs=chosen.tolist(),
        old_peak_logprobs=peak.tolist(),
        old_other_logprobs=other.tolist(),
        values=values.tolist(),
    )
    batch = collate(algorithm.credit([answer]), pack=False, dtype=logits.dtype)
    policy, critic = (
        Forward(**{key: torch.cat([column.new_zeros(1), column])[None] for key, column in columns.items()})
        for columns in ({"logprobs": chosen, "peak_logprobs": peak, "entropy": entropy}, {"values": values})
    )
    loss = algorithm.loss(policy, batch)
    error = (loss.metrics["td_error"] ** 2 * batch.weights).sum()
    assert torch.allclose(error, (algorithm.critic_loss(critic, batch).terms * batch.weights).sum())
    led = loss.metrics["advantages"][:, 1:]
    learned = {
        "q_sa": (led[0] + values).tolist(),
        "target": batch.returns[0, 1:].tolist(),
        "td_loss": float(error),
        "rank_score": float(rank_scores(led, values[None], given["gamma"])),
    }
    if not truth:
        return learned
    terms = {"adv_loss": -float(led.sum()), "ce_loss": float(loss.metrics["nll"].sum())}
    return learned | terms | {"total": float((loss.terms * batch.weights).sum())}
