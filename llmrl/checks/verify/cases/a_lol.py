"""The functions that answer `cases/a_lol.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from llmrl.algorithms.a_lol import ALoL, Variant, priorities
from llmrl.batch import collate
from llmrl.checks.verify.cases.rows import row
from llmrl.critics.layers import AttentionLayer, Tokens
from llmrl.ops.heads import Attention, attention_pool
from llmrl.protocols import Forward

Given = Mapping[str, Any]
GRADIENTS: tuple[Variant, ...] = ("a_lol", "a_lol_ref_free", "a_lol_seq", "a_lol_kl", "gold")
VARIANTS: tuple[Variant, ...] = ("gold", "r_lol", "a_lol", "a_lol_ref_free", "a_lol_seq", "a_lol_kl")


def alol_losses(given: Given, dtype: str) -> dict[str, Any]:
    answers = {variant: _learned(variant, given, dtype) for variant in VARIANTS}
    return {
        "advantage": answers["a_lol"]["advantage"],
        "seq_ratio_clipped": [weights[0] for weights in answers["a_lol"]["weights"]],
        "loss": {variant: answer["loss"] for variant, answer in answers.items()},
        "grad_logp": {variant: answers[variant]["gradient"] for variant in GRADIENTS},
        "frac_clipped_seq": answers["a_lol"]["clipped"],
    }


def alol_sampling(given: Given) -> dict[str, Any]:
    alike = priorities(given["advantages"], "good_random")
    return {
        "probs": priorities(given["advantages"], "good_priority"),
        "uniform_positive_probs": alike,
        "kept_fraction": sum(share > 0 for share in alike) / len(alike),
    }


def alol_value_head(given: Given, dtype: str) -> dict[str, Any]:
    """A query, and nothing before or behind the pooling but `w` and `b`."""
    states = torch.tensor(given["hidden"], dtype=getattr(torch, dtype))
    width, real = states.shape[1], torch.tensor(given["prompt_mask"]) > 0
    padding = int((~real).sum())  # it stands before the prompt; here in a row of its own, whose sample is not asked
    head = Attention(high=given["max_value"], queries=1)
    last = torch.nn.Linear(width, 1)
    layer = AttentionLayer(width, 1, last).to(states.dtype)
    with torch.no_grad():
        layer.query.copy_(states.new_tensor([given["query"]]))
        for part in (layer.keys, layer.values, layer.mix):
            part.weight.copy_(torch.eye(width))
            if part.bias is not None:
                part.bias.zero_()
        last.weight.copy_(states.new_tensor([given["w"]]))
        last.bias.fill_(given["b"])
        owner = torch.tensor([[-1] * padding + [0] * int(real.sum())])
        tokens = Tokens(owner, (real.cumsum(0) - 1)[None], torch.zeros_like(owner).bool(), owner, 1)
        values = head.values(layer(states[None], tokens)[0])
        read = states[real][:, None]
        pooled = attention_pool(layer.query, read, read, owner[0, real], 1)
    return {"pooled": pooled.flatten().tolist(), "value": float(values[0, -1])}


def _learned(variant: Variant, given: Given, dtype: str) -> dict[str, Any]:
    """Objective of a variant, its slopes, and its importance weights."""
    options = {"epsilon": given["ppo_clip"], "gold_floor": given["gold_floor"], "beta": given["kl_beta"]}
    algorithm = ALoL(variant=variant, priority="none", **options)
    lengths = [int(sum(mask)) for mask in given["mask"]]
    rows = [
        row(
            n,
            group=str(i),
            reward=given["reward"][i],
            numbers={"value": given["value"][i]},
            sampled_logprobs=given["logp"][i][:n],
            ref_logprobs=given["ref_logp"][i][:n],
        )
        for i, n in enumerate(lengths)
    ]
    credited = algorithm.credit(rows)
    batch = collate(credited, pack=False, dtype=getattr(torch, dtype))
    new = batch.sampled_logprobs.clone().requires_grad_()
    loss = algorithm.loss(Forward(logprobs=new), batch)
    total = (loss.terms * batch.weights).sum()
    weights = loss.metrics.get("importance/mean", torch.zeros_like(new))
    clipped = loss.metrics.get("importance/clipped", torch.zeros_like(new))
    return {
        "loss": float(total.detach()),
        "gradient": torch.autograd.grad(total, new)[0][:, 1:].tolist(),
        "advantage": [row.numbers["advantage"] for row in credited],
        "weights": weights[:, 1:].tolist(),
        "clipped": float(clipped[:, 1].mean()),
    }
