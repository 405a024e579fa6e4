"""The functions that answer `cases/mismatch.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from llmrl.algorithms.grpo import GRPO
from llmrl.batch import Batch, collate
from llmrl.checks.verify.cases.rows import row
from llmrl.ops.logprobs import token_logprobs
from llmrl.ops.mismatch import Correction, diagnostics, require_scaled
from llmrl.protocols import Forward

Given = Mapping[str, Any]


def tis(given: Given, dtype: str) -> dict[str, Any]:
    old, batch = _pair(given["old_logp"], given["rollout_logp"], dtype)
    low, high = given["mask_bounds"]

    def weights(mode: Any, floor: float = 0.0, cap: float = given["cap"]) -> Tensor:
        return Correction(mode, floor, cap).weights(old, batch)[0, 1:]

    said = diagnostics(old, batch.sampled_logprobs, batch.action_mask, given["cap"])
    truncated = weights("token_truncate")
    return {
        "ratio": weights("token_truncate", cap=1e9).tolist(),
        "token_truncated": truncated.tolist(),
        "token_masked": weights("token_mask", low, high).tolist(),
        "seq_ratio": float(weights("sequence_truncate", cap=1e9)[0]),
        "seq_truncated": float(weights("sequence_truncate")[0]),
        "geo_ratio": float(Correction("geometric_mask").bounded(old, batch)[0, 1]),
        "kl_k1": said["k1"],
        "kl_k3": said["k3"],
        "chi2_token": said["chi2"],
        "ppl_ratio": said["perplexity_ratio"],
        "batch_normalised": (truncated / truncated.mean()).tolist(),
        "ess_fraction": said["ess"],
        "frac_above_cap": said["above_cap"],
    }


def tis_length_trap(given: Given, dtype: str) -> dict[str, Any]:
    products, means, kept = [], [], []
    for length in given["lengths"]:
        old, batch = _pair([0.0] * length, [-given["per_token_log_ratio"]] * length, dtype)
        products.append(float(Correction("sequence_mask").bounded(old, batch)[0, 1]))
        means.append(float(Correction("geometric_mask").bounded(old, batch)[0, 1]))
        kept.append(float(Correction("sequence_mask", cap=3.0).weights(old, batch)[0, 1]) > 0)
    return {"seq_ratio": products, "geo_ratio": means, "kept_below_3": kept}


def logprob_semantics(given: Given, dtype: str) -> dict[str, Any]:
    logits = torch.tensor([given["logits"]], dtype=getattr(torch, dtype))
    token, heat = torch.tensor([given["token"]]), given["temperature"]

    def told(numbers: Tensor, temperature: float = 1.0) -> float:
        return float(token_logprobs(numbers, lambda hidden: hidden, token, temperature)[0])

    odds = torch.softmax(logits[0], -1)
    order = odds.argsort(descending=True)
    before = odds[order].cumsum(0) - odds[order]
    kept = sorted(order[before < given["top_p"]].tolist())
    left = torch.full_like(logits, float("-inf"))
    left[:, kept] = logits[:, kept]
    refused = []
    for semantics in ("raw", "renormalised"):
        try:
            require_scaled([row(1, semantics=semantics)])
        except ValueError:
            refused.append(semantics)
    scaled = told(logits, heat)
    return {
        "raw": told(logits),
        "temperature_scaled": scaled,
        "kept_tokens": kept,
        "kept_mass_S": float(odds[kept].sum()),
        "top_p_logp": told(left),
        "bias": told(left) - told(logits),
        # The two spurious ratios cannot be computed by a loss: rows that would give them are refused.
        "ratio_of_scaled": 1.0 if refused == ["raw", "renormalised"] else float("nan"),
    }


def decoupled_ppo(given: Given, dtype: str) -> dict[str, Any]:
    algorithm = GRPO(
        epsilon=given["eps_low"], epsilon_high=given["eps_high"], importance_sampling_cap=given["cap"], num_iterations=2
    )
    old, new = given["old_logp"], torch.tensor([[0.0, *given["new_logp"]]], dtype=getattr(torch, dtype))
    sample = row(len(old), sampled_logprobs=given["rollout_logp"], old_logprobs=old)
    sample = sample.assign(advantages=[0.0, *given["advantages"]], weights=1 / len(old))
    batch = collate([sample], pack=False, dtype=new.dtype)
    loss = algorithm.loss(Forward(logprobs=new), batch)
    return {
        "weights": loss.metrics["sampling/importance_sampling_ratio/mean"][0, 1:].tolist(),
        "ratios": (new - batch.old_logprobs).exp()[0, 1:].tolist(),
        "token_loss": loss.terms[0, 1:].tolist(),
        "loss": float((loss.terms * batch.weights).sum()),
    }


def _pair(old: Sequence[float], sampled: Sequence[float], dtype: str) -> tuple[Tensor, Batch]:
    """The trainer's numbers as a (1, T) tensor, and a batch with the engine's."""
    sample = row(len(old), sampled_logprobs=sampled, old_logprobs=old).assign(weights=1.0)
    batch = collate([sample], pack=False, dtype=getattr(torch, dtype))
    return batch.old_logprobs, batch
