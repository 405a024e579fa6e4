"""The functions that answer `cases/reward_models.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, get_args

import torch
from torch import Tensor

from llmrl.algorithms.oreal import Oreal
from llmrl.evaluation.statistics import pass_at_k
from llmrl.ops.reward_models import IGNORED, bradley_terry, labelled_bce, mean_logit_bce, sequence_bce
from llmrl.ops.scores import (
    Aggregation,
    aggregate,
    best_of_n,
    best_of_n_accuracy,
    elected,
    first_below,
    running_mean,
    votes,
)
from llmrl.reward_models.model import sigmoid
from llmrl.reward_models.stepwise import Neutral, monte_carlo, trajectory

Given = Mapping[str, Any]


def rm_bradley_terry(given: Given, dtype: str) -> dict[str, Any]:
    chosen, rejected = (_tensor(given[name], dtype).requires_grad_() for name in ("chosen", "rejected"))
    plain = bradley_terry(chosen, rejected).mean()
    (slope,) = torch.autograd.grad(plain, chosen)
    gaps = (chosen - rejected).detach()
    return {
        "plain": float(plain.detach()),
        "with_margin": float(bradley_terry(chosen, rejected, _tensor(given["margin"], dtype)).mean().detach()),
        "with_center": float(
            bradley_terry(chosen, rejected, center_rewards_coefficient=given["center_coef"]).mean().detach()
        ),
        "accuracy_strict": float((gaps > 0).double().mean()),
        "grad_chosen_plain": slope.tolist(),
        "mean_margin": float(gaps.mean()),
    }


def rm_verifier_orm(given: Given, dtype: str) -> dict[str, Any]:
    logits, label = _tensor(given["logits"], dtype), _tensor(given["label"], dtype)
    mask = torch.tensor(given["mask"], dtype=torch.bool)
    last = mask.sum(-1) - 1
    at_last = torch.full_like(logits, IGNORED).scatter(1, last[:, None], label[:, None])
    everywhere = label[:, None].expand_as(logits).where(mask, float(IGNORED))
    return {
        "last_token": float(labelled_bce(logits, at_last)) / len(label),
        "all_token_seqmean": float(sequence_bce(logits, label, mask)) / len(label),
        "all_token_globalmean": float(labelled_bce(logits, everywhere)) / int(mask.sum()),
        "score_last": logits.gather(1, last[:, None])[:, 0].sigmoid().tolist(),
    }


def prm_mc_labels(given: Given) -> dict[str, Any]:
    counts, rollouts, final = given["correct_counts"], given["n_rollouts"], given["final_correct"]
    soft = monte_carlo(counts, rollouts, final, soft=True)
    return {
        "soft": soft,
        "hard": monte_carlo(counts, rollouts, final, threshold=given["threshold"]),
        "hard_stop_at_first_error": monte_carlo(counts, rollouts, final, stop_at_first_error=True),
        "value_drop": [after - before for before, after in pairwise(soft)],
    }


def prm_bce(given: Given, dtype: str) -> dict[str, Any]:
    logits, labels = _tensor([given["step_logits"]], dtype), _tensor([given["labels"]], dtype)
    known = int((labels != IGNORED).sum())
    best = torch.logit(labels.clamp(0, 1)).clamp(-40, 40)  # what says each label exactly
    return {
        "loss": float(labelled_bce(logits, labels)) / known,
        "min_achievable": float(labelled_bce(best, labels)) / known,
    }


def prm_aggregate(given: Given) -> dict[str, Any]:
    found: dict[str, Any] = {how: aggregate(given["step_probs"], how) for how in get_args(Aggregation)}
    return found | {"first_below_half": first_below(given["step_probs"])}


def answer_vote(given: Given) -> dict[str, Any]:
    answers, scores = given["answers"], given["scores"]
    weighted = votes(answers, scores)
    return {
        "best_of_n": answers[best_of_n(scores)],
        "majority": elected(votes(answers)),
        "weighted_sum": weighted,
        "weighted_choice": elected(weighted),
    }


def bon_pass_estimators(given: Given) -> dict[str, Any]:
    scores, correct = given["scores"], [bool(one) for one in given["correct"]]
    return {
        "bon": {str(n): best_of_n_accuracy(scores, correct, n) for n in given["n"]},
        "pass_at_k": {str(n): pass_at_k(len(correct), sum(correct), n) for n in given["n"]},
    }


def token_level_rm(given: Given, dtype: str) -> dict[str, Any]:
    logits = _tensor([given["token_logits"]], dtype)
    oreal = Oreal(weight_threshold=given["threshold"])
    means, other = running_mean(given["token_logits"]), running_mean(given["second_example_logits"])
    return {
        "loss": float(mean_logit_bce(logits, _tensor([given["label"]], dtype), torch.ones_like(logits).bool())),
        "cum_mean": means.tolist(),
        "p_correct": torch.from_numpy(means).sigmoid().tolist(),
        "pos_weight": oreal._rescaled(means, True).tolist(),
        "neg_weight": oreal._rescaled(means, False).tolist(),
        "second_neg_weight": oreal._rescaled(other, False).tolist(),
    }


def prm800k_parse(given: Given) -> dict[str, Any]:
    made: dict[Neutral, Any] = {name: trajectory(given["steps"], name) for name in get_args(Neutral)}
    others = made["positive"].alternatives
    return {
        "trajectory": made["positive"].steps,
        "labels_neutral_positive": made["positive"].labels,
        "labels_neutral_ignore": made["ignore"].labels,
        "alternatives": [{"prefix": prefix, "text": text, "label": label} for prefix, text, label in others],
    }


def webrl_orm(given: Given) -> dict[str, Any]:
    chance = sigmoid(given["z_yes"] - given["z_no"])
    return {"p_yes": chance, "reward": int(chance >= 0.5)}


def _tensor(numbers: Any, dtype: str) -> Tensor:
    return torch.tensor(numbers, dtype=getattr(torch, dtype))
