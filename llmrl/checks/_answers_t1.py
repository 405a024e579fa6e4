"""The functions that answer `cases/t1.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from llmrl.algorithms.t1 import T1
from llmrl.batch import collate
from llmrl.checks._answer_rows import row
from llmrl.ops.credit import leave_one_out
from llmrl.ops.logprobs import token_logprobs
from llmrl.protocols import Forward

Given = Mapping[str, Any]


def t1_oversample_subset(given: Given) -> dict[str, Any]:
    rewards, selected = given["rewards"], given["selected"]
    algorithm = T1(train_k=len(selected), beta=0.0)
    rows = algorithm.credit([row(2, episode=i, reward=reward) for i, reward in enumerate(rewards)])
    gains = {one.episode: (one.advantages or [])[1] for one in rows}
    return {
        "advantages_all": leave_one_out(rewards),
        "selected_advantages": [gains[i] for i in selected] if set(gains) == set(selected) else sorted(gains.values()),
    }


def entropy(given: Given, dtype: str) -> dict[str, Any]:
    logits = torch.tensor([given["logits"]], dtype=getattr(torch, dtype))
    _, found = token_logprobs(logits, lambda hidden: hidden, torch.tensor([0]))
    logprobs = torch.stack([token_logprobs(logits, lambda hidden: hidden, torch.tensor([i]))[0][0] for i in range(4)])
    return {"entropy": float(found[0]), "check": float(-(logprobs.exp() * logprobs).sum())}


def t1_entropy_bonus(given: Given, dtype: str) -> dict[str, Any]:
    algorithm = T1(entropy_coef=given["alpha"], beta=0.0)
    mask = [False, *map(bool, given["mask"])]
    rows = algorithm.credit([row(len(mask) - 1, episode=i, reward=0.5, action_mask=mask) for i in (0, 1)])
    batch = collate(rows, pack=False, dtype=getattr(torch, dtype))
    chaos = torch.tensor([[0.0, *given["token_entropy"]]] * 2, dtype=getattr(torch, dtype))
    loss = algorithm.loss(Forward(logprobs=batch.sampled_logprobs, entropy=chaos), batch)
    return {"loss_term": float((loss.terms * batch.weights).sum())}
