"""The functions that answer `cases/oreal.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import torch
from torch import Tensor

from llmrl.algorithms.oreal import Oreal, top_fraction
from llmrl.batch import Batch, collate
from llmrl.checks.verify.cases.rows import actions_of, row
from llmrl.data.by_pass_rate import ByPassRate
from llmrl.ops.credit import center
from llmrl.ops.scores import running_mean
from llmrl.protocols import Forward
from llmrl.samples import Sample

Given = Mapping[str, Any]


def oreal_bon(given: Given) -> dict[str, Any]:
    """By all draws of n answers, of which a right one is kept where there is one; the factor is an advantage."""
    p, n = given["p"], given["n"]
    chance = {draw: p ** sum(draw) * (1 - p) ** (n - sum(draw)) for draw in product((True, False), repeat=n)}
    wrong = sum(weight for draw, weight in chance.items() if not any(draw))
    group = [1.0] * round(100 * p) + [0.0] * round(100 * (1 - p))
    return {
        "prob_negative": wrong,
        "mult_correct": (1 - wrong) / p,
        "mult_incorrect": wrong / (1 - p),
        "total_check": sum(chance.values()),
        "negative_reward_factor": center([group], "none")[0][0],
    }


def oreal_loss(given: Given, dtype: str) -> dict[str, Any]:
    """Loss of two right and two wrong answers. The two of a pair are equal, so either of them may be kept."""
    algorithm = Oreal(eta=given["neg_factor"], beta=given["beta"], critic_only_steps=0)
    rows = algorithm.credit([_answer(given, i, right=i in (0, 3)) for i in range(4)])
    batch = collate(rows, pack=False, dtype=getattr(torch, dtype))
    new = _column(given, rows, "logp", dtype).requires_grad_()
    loss = algorithm.loss(Forward(logprobs=new), batch)
    total = (loss.terms * batch.weights).sum()
    slopes = torch.autograd.grad(total, new)[0]
    mind = _column(given, rows, "rm_logits", dtype)
    told = algorithm.reward_model_loss(Forward(values=mind, next_values=mind), batch).terms
    found: dict[str, Any] = {
        "positive_loss": _mean(loss.metrics["loss/right"], batch),
        "negative_loss": _mean(loss.metrics["loss/wrong"], batch),
        "kl_loss": given["beta"] * _mean(loss.metrics["kl"], batch),
        "total": float(total.detach()),
        "token_rm_bce": float((told * batch.value_weights).sum()),
    }
    for i, one in enumerate(rows):
        side, length = ("pos" if one.correct else "neg"), one.actions
        gain = given[f"adv_{side}"] * (1.0 if one.correct else given["neg_factor"])
        credit, share = actions_of(one.advantages), abs(float(one.returns[1]))
        found[f"cummean_{side}"] = running_mean(given[f"rm_logits_{side}"]).tolist()
        found[f"weights_{side}"] = [number / (gain * share) + 0.0 for number in credit]
        found[f"grad_logp_{side}"] = slopes[i, 1 : 1 + length].tolist()
    return found


def oreal_zero_head(given: Given) -> dict[str, Any]:
    logits = given["rm_logits"]
    rows = [row(len(logits), episode=i, correct=i == 0, reward=float(i == 0), values=logits) for i in (0, 1)]
    credited = {one.correct: [abs(x) for x in actions_of(one.advantages)] for one in Oreal(beta=0.0).credit(rows)}
    return {"weights_pos": credited[True], "weights_neg": credited[False]}


def oreal_topk_weights(given: Given) -> dict[str, Any]:
    return {"weights": top_fraction(given["probs"], given["ratio"]).tolist()}


def oreal_difficulty_repeat(given: Given) -> dict[str, Any]:
    bins = given["bins"]
    data = ByPassRate(
        of={"name": "arithmetic"}, records="unread.jsonl", repeats=tuple(n for *_, n in bins), below=bins[-1][1]
    )
    return {"repeats": [data.times(Fraction(str(rate))) for rate in given["pass_rates"]]}


def _answer(given: Given, episode: int, *, right: bool) -> Sample:
    side = "pos" if right else "neg"
    logp = given[f"logp_{side}"]
    columns = {"sampled_logprobs": logp, "ref_logprobs": given[f"ref_{side}"], "values": given[f"rm_logits_{side}"]}
    return row(len(logp), episode=episode, correct=right, reward=1.0 if right else -1.0, **columns)


def _column(given: Given, rows: Sequence[Sample], name: str, dtype: str) -> Tensor:
    """(B, T) of the case's numbers for the rows that were kept."""
    width = max(len(one.token_ids) for one in rows)
    lines = [[0.0, *given[f"{name}_{'pos' if one.correct else 'neg'}"]] for one in rows]
    return torch.tensor([line + [0.0] * (width - len(line)) for line in lines], dtype=getattr(torch, dtype))


def _mean(metric: Tensor, batch: Batch) -> float:
    return float((metric * batch.weights).sum())
