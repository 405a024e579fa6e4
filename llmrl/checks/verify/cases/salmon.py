"""The functions that answer `cases/salmon.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import float64, tensor

from llmrl.ops.kl import k1
from llmrl.ops.salmon import combined, dominant, inclusion, length_bonus, shaped
from llmrl.reward_models.principles import BOOST, Principle, weights

Given = Mapping[str, Any]


def salmon_label(given: Given) -> dict[str, Any]:
    scores = {
        name: combined(tuple(gaps), given["variance"][name], bool(given["negated"][name]))
        for name, gaps in given["order_gaps"].items()
    }
    name = dominant(scores)
    return {
        "scores": list(scores.values()),
        "dominant": name,
        "preference": None if name is None else 1 if scores[name] > 0 else 2,
    }


def salmon_reward(given: Given) -> dict[str, Any]:
    """llmrl's KL in the reward is k1 as it is; cutting it at 0, which is biased upwards, is done here."""
    columns = [tensor(given[name], dtype=float64) for name in ("logp", "ref_logp")]
    divergence = [-given["kl_coef"] * max(distance, 0.0) for distance in k1(*columns).tolist()]
    answers: dict[str, dict[str, Any]] = {}
    for name in ("general", "reasoning_truncated"):
        case, ceiling = given[f"case_{name}"], given["length_bonus_upper"]
        parts = shaped(
            given["rm_score"],
            case["n_tokens"],
            case["has_stop"],
            case["multiplier"],
            scale=given["length_bonus_score"],
            ceiling=ceiling,
            no_stop=given["no_stop_penalty"],
        )
        bonus = length_bonus(case["n_tokens"], case["multiplier"], ceiling, given["response_len"])
        rewards = [*divergence[:-1], divergence[-1] + sum(parts.values())]
        answers[name] = {"length_bonus": bonus, "token_rewards": rewards}
    answers["general"]["scaled_last"] = given["reward_scale"] * answers["general"]["token_rewards"][-1]
    return answers


def salmon_principle_sampling(given: Given) -> dict[str, Any]:
    principles = [
        Principle(name=name, text="x", opposite="y", weight=weight)
        for name, weight in zip(given["names"], given["weight"], strict=True)
    ]
    assert given["bonus"] == BOOST
    answers = {}
    for kind, info in (("general", {}), ("reasoning", {"reasoning": True})):
        heavy = weights(principles, info)
        answers[f"first_draw_{kind}"] = inclusion(heavy, 1)
        answers[f"inclusion_k2_{kind}"] = inclusion(heavy, given["k"])
    return answers
