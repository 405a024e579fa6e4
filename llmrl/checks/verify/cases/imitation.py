"""The functions that answer `cases/imitation.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from llmrl.algorithms.bc import BC
from llmrl.batch import collate
from llmrl.checks.verify.cases.rows import row
from llmrl.protocols import Forward

Given = Mapping[str, Any]


def imitation_losses(given: Given, dtype: str) -> dict[str, Any]:
    """Objectives of the three ways to weigh answers, and the slopes of the weighted one."""
    clone, weighted = _objective(BC(), given, dtype), _objective(BC(weights="reward"), given, dtype)
    filtered = _objective(BC(weights="filtered", min_reward=given["min_reward"]), given, dtype)
    slopes = [line[1 : 1 + len(own)].tolist() for line, own in zip(weighted[1], given["logp"], strict=True)]
    return {"nll": clone[0], "wbc": weighted[0], "filtered": filtered[0], "grad_wbc": slopes}


def _objective(algorithm: BC, given: Given, dtype: str) -> tuple[float, Tensor]:
    pairs = zip(given["logp"], given["reward"], strict=True)
    answers = [
        row(len(logp), group=str(i), reward=reward, sampled_logprobs=logp) for i, (logp, reward) in enumerate(pairs)
    ]
    batch = collate(algorithm.credit(answers), pack=False, dtype=getattr(torch, dtype))
    new = batch.sampled_logprobs.clone().requires_grad_()
    total = (algorithm.loss(Forward(logprobs=new), batch).terms * batch.weights).sum()
    return float(total.detach()), torch.autograd.grad(total, new)[0]
