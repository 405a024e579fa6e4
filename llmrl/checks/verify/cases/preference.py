"""The functions that answer `cases/preference.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from llmrl.algorithms.preference import Preference
from llmrl.algorithms.step_apo import StepAPO
from llmrl.batch import Batch, collate
from llmrl.checks.verify.cases.rows import row
from llmrl.protocols import Forward, Loss
from llmrl.samples import Sample

Given = Mapping[str, Any]
Side = tuple[Sequence[float], Sequence[float]]
"""Log-probabilities of an answer by policy and reference, turn by turn."""


def dpo_loss(given: Given, dtype: str) -> dict[str, Any]:
    names = ("pol_chosen", "ref_chosen", "pol_rejected", "ref_rejected")
    pairs = [(([a], [b]), ([c], [d])) for a, b, c, d in zip(*(given[name] for name in names), strict=True)]
    loss, batch, _ = _judged(Preference(beta=given["beta"]), pairs, dtype)
    each = {name: _of_pairs(numbers, batch) for name, numbers in (("loss", loss.terms), *loss.means.items())}
    return {
        "per_pair": each["loss"],
        "loss": _total(loss, batch),
        "chosen_reward": each["rewards/chosen"],
        "rejected_reward": each["rewards/rejected"],
        "accuracy": sum(each["rewards/accuracies"]) / len(pairs),
    }


def step_apo_loss(given: Given, dtype: str) -> dict[str, Any]:
    chosen, rejected = ([given["pol_w"]], [given["ref_w"]]), ([given["pol_l"]], [given["ref_l"]])

    def answer(alpha: float, scale: float = 1.0) -> dict[str, float]:
        algorithm, values = StepAPO(beta=given["beta"], advantage_margin=alpha), (given["q_w"], given["q_l"])
        rewards = (scale * values[0], scale * values[1])
        loss, batch, new = _judged(algorithm, [(chosen, rejected)], dtype, rewards)
        (loss.terms * batch.weights).sum().backward()  # type: ignore[no-untyped-call]
        assert new.grad is not None
        return {"loss": _total(loss, batch), "dloss_dpol_w": float(new.grad[0, 1])}

    return {
        "step_apo": answer(given["alpha"]),
        "step_dpo": answer(0.0),
        "step_apo_solution": {"loss": answer(given["alpha"], given["solution_scale"])["loss"]},
    }


def cpl_regret(given: Given, dtype: str) -> dict[str, Any]:
    first, second = (given["logp1"], given["ref1"]), (given["logp2"], given["ref2"])

    def loss(chosen: Side, rejected: Side, **options: Any) -> tuple[float, float, float]:
        """The loss, and the scores of both sides."""
        options = {"loss_type": "cpl", "beta": given["alpha"], "conservatism": given["lam"], **options}
        told, batch, _ = _judged(Preference(**options), [(chosen, rejected)], dtype)
        better, worse = (_of_pairs(told.means[f"rewards/{side}"], batch)[0] for side in ("chosen", "rejected"))
        return _total(told, batch), better, worse

    def answers(gamma: float) -> dict[str, float]:
        value, chosen, rejected = loss(second, first, gamma=gamma)
        return {
            "adv1": rejected,
            "adv2": chosen,
            "loss_prefer_2": value,
            "loss_prefer_1": loss(first, second, gamma=gamma)[0],
            "loss_prefer_2_lambda1": loss(second, first, gamma=gamma, conservatism=1.0)[0],
        }

    value, chosen, rejected = loss(second, first, reference_free=False)
    kl = {"adv1": rejected, "adv2": chosen, "loss_prefer_2": value}
    return {"gamma_1": answers(1.0), "gamma_nine_tenths": answers(0.9), "kl_variant": kl}


def _judged(
    algorithm: Preference,
    pairs: Sequence[tuple[Side, Side]],
    dtype: str,
    rewards: tuple[float, float] = (1.0, 0.0),
) -> tuple[Loss, Batch, Tensor]:
    """The loss of the pairs, the batch they were in, and the (B, T) log-probabilities that it is a loss of."""
    rows: list[Sample] = []
    logprobs: list[float] = []
    for number, pair in enumerate(pairs):
        for episode, (policy, reference) in enumerate(pair):
            facts = {"group": str(number), "episode": episode, "reward": rewards[episode]}
            turns = {"turn_ids": range(len(policy)), "turn_rewards": [0.0] * len(policy)}
            rows.append(row(len(policy), **facts, **turns, ref_logprobs=reference))
            logprobs += [0.0, *policy]
    batch = collate(algorithm.credit(rows), pack=True, dtype=getattr(torch, dtype))
    new = torch.tensor([logprobs], dtype=getattr(torch, dtype), requires_grad=True)
    return algorithm.loss(Forward(logprobs=new), batch), batch, new


def _of_pairs(numbers: Tensor, batch: Batch) -> list[float]:
    """Numbers that the tokens of a pair share, pair by pair."""
    pairs = batch.group_ids[batch.sample_ids[batch.action_mask]].tolist()
    return list(dict(zip(pairs, numbers[batch.action_mask].tolist(), strict=True)).values())


def _total(loss: Loss, batch: Batch) -> float:
    return float((loss.terms.detach() * batch.weights).sum())
