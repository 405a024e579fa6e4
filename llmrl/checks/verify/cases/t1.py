"""The functions that answer `cases/t1.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from llmrl.algorithms.t1 import T1
from llmrl.batch import collate
from llmrl.checks.verify.cases.rows import row
from llmrl.ops.credit import leave_one_out
from llmrl.ops.logprobs import token_logprobs
from llmrl.protocols import Forward
from llmrl.recipe import ModelOptions
from llmrl.train.moving_copy import MovingCopy
from llmrl.train.policy import Reference

Given = Mapping[str, Any]


def t1_oversample_subset(given: Given) -> dict[str, Any]:
    rewards, selected = given["rewards"], given["selected"]
    algorithm = T1(train_k=len(selected), beta=0.0)
    rows = algorithm.credit([row(2, episode=i, reward=reward) for i, reward in enumerate(rewards)])
    advantages = {one.episode: float(one.advantages[1]) for one in rows}
    return {
        "advantages_all": leave_one_out(rewards),
        "selected_advantages": [advantages[i] for i in selected]
        if set(advantages) == set(selected)
        else sorted(advantages.values()),
    }


def entropy(given: Given, dtype: str) -> dict[str, Any]:
    logits = torch.tensor([given["logits"]], dtype=getattr(torch, dtype))
    _, answers = token_logprobs(logits, lambda hidden: hidden, torch.tensor([0]))
    logprobs = torch.stack([token_logprobs(logits, lambda hidden: hidden, torch.tensor([i]))[0][0] for i in range(4)])
    return {"entropy": float(answers[0]), "check": float(-(logprobs.exp() * logprobs).sum())}


def t1_entropy_bonus(given: Given, dtype: str) -> dict[str, Any]:
    algorithm = T1(entropy_coef=given["alpha"], beta=0.0)
    turns = [0 if chosen else -1 for chosen in given["mask"]]
    rows = algorithm.credit([row(len(turns), episode=i, reward=0.5, turn_ids=turns) for i in (0, 1)])
    batch = collate(rows, pack=False, dtype=getattr(torch, dtype))
    chaos = torch.tensor([[0.0, *given["token_entropy"]]] * 2, dtype=getattr(torch, dtype))
    loss = algorithm.loss(Forward(logprobs=batch.sampled_logprobs, entropy=chaos), batch)
    return {"loss_term": float((loss.terms * batch.weights).sum())}


class _Copy(MovingCopy):
    """A copy in the precision of its numbers, without processes."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self._sharded, self._whole = net, False, True


class _Beside(Reference):
    """A reference, or a policy, that is one vector."""

    def __init__(self, numbers: Tensor, options: ModelOptions) -> None:
        self._moves, self._vector = options, nn.ParameterList([nn.Parameter(numbers)])
        self.copy = _Copy(self._vector)

    @property
    def net(self) -> Any:
        return self._vector


def t1_ema_anchor(given: Given, dtype: str) -> dict[str, Any]:
    kept, theta, ref0 = given["decay"], given["theta"], given["ref0"]
    options = ModelOptions(policy="unread", sync_ref_model=True, ref_model_mixup_alpha=1 - kept, ref_model_sync_steps=1)
    anchor, policy = (_Beside(torch.tensor(x, dtype=getattr(torch, dtype)), options) for x in (ref0, theta))
    for step in range(given["steps"]):
        anchor.follow(policy, step)
    closed = [t + (r - t) * kept ** given["steps"] for t, r in zip(theta, ref0, strict=True)]
    return {"ref": next(iter(anchor.net.parameters())).tolist(), "closed_form": closed}
