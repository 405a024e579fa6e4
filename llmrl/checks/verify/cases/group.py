"""The functions that answer `cases/group.yaml`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from math import log
from typing import Any

import torch
from torch import Tensor

from llmrl.algorithms.grpo import GRPO
from llmrl.batch import collate
from llmrl.checks.verify.cases.rows import actions_of, row
from llmrl.ops.credit import average, center, leave_one_out
from llmrl.ops.kl import k1, k2, k3
from llmrl.ops.losses import clipped, clipped_surrogate
from llmrl.plugins import build
from llmrl.protocols import Forward

Given = Mapping[str, Any]
Estimator = Callable[[Tensor, Tensor], Tensor]
ESTIMATORS: Mapping[str, Estimator] = {"k1": k1, "k2": k2, "k3": k3}


def kl_estimators(given: Given, dtype: str) -> dict[str, Any]:
    ref, answers = tensor(given["ref_logp"], dtype), {}
    for name, estimate in ESTIMATORS.items():
        new = tensor(given["logp"], dtype).requires_grad_()
        terms = estimate(new, ref)
        answers[name] = terms.tolist()
        answers[f"grad_{name}"] = torch.autograd.grad(terms.sum(), new)[0].tolist()
    return answers


def kl_expected_gradients(given: Given, dtype: str) -> dict[str, Any]:
    ref = tensor(given["ref_probs"], dtype).log()
    answers: dict[str, Any] = {}
    for name, estimate in ESTIMATORS.items():
        theta = tensor(given["theta"], dtype).requires_grad_()
        new = torch.log_softmax(theta, -1)
        mean = (new.detach().exp() * estimate(new, ref)).sum()
        answers[f"E_grad_{name}"] = torch.autograd.grad(mean, theta)[0].tolist()
    new = torch.log_softmax(tensor(given["theta"], dtype), -1)
    answers["reverse_kl"] = float((new.exp() * k3(new, ref)).sum())  # its value is KL(new, ref)
    answers["forward_kl"] = float((ref.exp() * k1(ref, new)).sum())
    return answers


def ppo_clip_tokens(given: Given, dtype: str) -> dict[str, Any]:
    old, gains = tensor(given["old_logp"], dtype), tensor(given["advantages"], dtype)
    low, high = given["eps_low"], given["eps_high"]

    def terms(delta: float | None = None, up: float = high) -> tuple[list[float], list[float]]:
        new = tensor(given["new_logp"], dtype).requires_grad_()
        loss = clipped_surrogate(new, old, gains, low, up, delta)
        return loss.tolist(), (torch.autograd.grad(loss.sum(), new)[0] + 0.0).tolist()

    fell, rose = clipped(tensor(given["new_logp"], dtype), old, gains, low, high)
    stopped = (fell + rose).bool()
    answers: dict[str, Any] = {"clipped": stopped.tolist(), "clipfrac": float(stopped.double().mean())}
    answers["loss"], answers["grad_logp"] = terms()
    answers["loss_clip_higher"], _ = terms(up=given["eps_high_dapo"])
    answers["loss_dual_clip"], answers["grad_logp_dual"] = terms(given["dual_clip"])
    return answers


def group_advantages(given: Given) -> dict[str, Any]:
    """llmrl adds TRL's 1e-4 to a deviation; the case's 1e-6 is put in its place by proportion."""
    from llmrl.ops.credit import EPSILON

    rewards, eps = given["rewards"], given["eps"]
    gaps = center([rewards], "none")[0]
    scaled = center([rewards], "group")[0]
    deviation = gaps[0] / scaled[0] - EPSILON
    biased = deviation * ((len(rewards) - 1) / len(rewards)) ** 0.5
    return {
        "grpo_unbiased_std": [gain * (deviation + EPSILON) / (deviation + eps) for gain in scaled],
        "grpo_population_std": [gain / (biased + eps) for gain in gaps],
        "dr_grpo": gaps,
        "rloo": leave_one_out(rewards),
    }


def group_advantages_degenerate(given: Given) -> dict[str, Any]:
    rewards = given["rewards"]
    every = [center([rewards], "group")[0], center([rewards], "none")[0], leave_one_out(rewards)]
    rows = [row(4, group="g", episode=i, reward=reward) for i, reward in enumerate(rewards)]
    zero = every[0] if all(gains == every[0] for gains in every) else []
    return {"advantages": zero, "dropped_by_dynamic_sampling": GRPO().credit(rows) == []}


def loss_aggregation(given: Given) -> dict[str, Any]:
    losses = given["token_losses"]
    rows = [row(len(terms), group="g", episode=i) for i, terms in enumerate(losses)]

    def weights(over: Any) -> list[list[float]]:
        return [actions_of(one.weights) for one in average(rows, over, given["max_len"])]

    def mean(over: Any) -> Any:
        return sum(
            w * term
            for each, terms in zip(weights(over), losses, strict=True)
            for w, term in zip(each, terms, strict=True)
        )

    return {
        "token_mean": mean("token"),
        "seq_mean_token_mean": mean("sequence"),
        "seq_mean_token_sum": mean("sequence_sum"),
        "dr_grpo": mean("constant"),
        "per_token_weight_token_mean": weights("token")[0][0],
        "per_token_weight_seq_mean": [each[0] for each in weights("sequence")],
    }


def dapo_overlong(given: Given) -> dict[str, Any]:
    reward = build(
        "reward",
        {"name": "soft_overlong", "limit": given["l_max"], "cache": given["l_cache"]},
    )
    return {"penalty": [reward.penalty(length) for length in given["lengths"]]}


def dapo_dynamic_sampling(given: Given) -> dict[str, Any]:
    groups = given["correct"]
    rows = [
        row(1, group=str(g), episode=i, reward=float(right))
        for g, group in enumerate(groups)
        for i, right in enumerate(group)
    ]
    kept = {one.group for one in GRPO().credit(rows)}
    return {
        "keep": [str(g) in kept for g in range(len(groups))],
        "pass_rates": [sum(group) / len(group) for group in groups],
    }


def gspo(given: Given, dtype: str) -> dict[str, Any]:
    algorithm = GRPO(
        loss_type="grpo",
        importance_sampling_level="sequence",
        epsilon=given["eps_low"],
        epsilon_high=given["eps_high"],
        num_iterations=2,
    )
    answers: dict[str, Any] = {}
    for name in ("clipped", "inside"):
        old = given["old_logp"]
        sample = row(len(old), sampled_logprobs=old, old_logprobs=old).assign(
            advantages=given["advantage"], weights=1 / len(old)
        )
        new = tensor([[0.0, *given[f"new_logp_{name}"]]], dtype).requires_grad_()
        batch = collate([sample], pack=False, dtype=new.dtype)
        loss = algorithm.loss(Forward(logprobs=new), batch)
        total = (loss.terms * batch.weights).sum()
        slopes = torch.autograd.grad(total, new)[0][0, 1:].tolist()
        answers |= {f"s_{name}": ratio(given, name), f"loss_{name}": float(total.detach()), f"grad_{name}": slopes}
    answers["is_clipped"] = not any(answers.pop("grad_clipped"))
    return answers


def ratio(given: Given, name: str) -> float:
    """Ratio of a sequence, read from the unclipped loss, which is minus the ratio where the advantage is 1."""
    old = given["old_logp"]
    wide = GRPO(loss_type="grpo", importance_sampling_level="sequence", epsilon=9.0, num_iterations=2)
    sample = row(len(old), sampled_logprobs=old, old_logprobs=old).assign(advantages=1.0, weights=1.0)
    new = tensor([[0.0, *given[f"new_logp_{name}"]]], "float64")
    terms = wide.loss(Forward(logprobs=new), collate([sample], pack=False, dtype=new.dtype)).terms
    return -float(terms[0, 1])


def cispo(given: Given, dtype: str) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    low, high = given["two_sided"]
    for name, floor, cap in (("", 0.0, given["eps_max"]), ("_two_sided", low, high)):
        algorithm = GRPO(loss_type="cispo", weight_floor=floor, weight_cap=cap, num_iterations=2)  # type: ignore[call-arg,arg-type]
        now = given["new_logp"]
        old = [n - log(r) for n, r in zip(now, given["ratios"], strict=True)]
        sample = row(len(now), sampled_logprobs=old, old_logprobs=old)
        sample = sample.assign(advantages=[0.0, *given["advantages"]], weights=1 / len(now))
        new = tensor([[0.0, *now]], dtype).requires_grad_()
        terms = algorithm.loss(Forward(logprobs=new), collate([sample], pack=False, dtype=new.dtype)).terms[:, 1:]
        slopes = torch.autograd.grad(terms.sum(), new)[0][0, 1:]
        answers[f"loss{name}"] = terms[0].tolist()
        answers[f"weights{name}"] = (-slopes / tensor(given["advantages"], dtype)).tolist()
        if not name:
            answers |= {"grad": slopes.tolist(), "mean_loss": float(terms.mean().detach())}
    return answers


def channels(given: Given) -> dict[str, Any]:
    weights = given["weights"]
    rows = [
        row(1, group=str(g), episode=i, reward=sum(weights[n] * parts[n] for n in weights), parts=parts)
        for g, columns in enumerate(zip(*(given[n] for n in weights), strict=True))
        for i, parts in enumerate(dict(zip(weights, one, strict=True)) for one in zip(*columns, strict=True))
    ]

    def gains(**options: Any) -> list[list[float]]:
        groups: dict[str, list[float]] = {}
        for one in GRPO(**options).credit(rows):
            groups.setdefault(one.group, []).append(float(one.advantages[1]))
        return list(groups.values())

    return {
        "apart": gains(channels=weights),
        "apart_unscaled": gains(channels=weights, scale_rewards="none"),
        "as_one": gains(),
    }


def top_entropy(given: Given) -> dict[str, Any]:
    rows = [
        row(len(entropies), episode=i, reward=reward, old_entropy=entropies)
        for i, (reward, entropies) in enumerate(zip(given["rewards"], given["entropies"], strict=True))
    ]
    answers: dict[str, Any] = {}
    for share in given["shares"]:
        # An entropy bonus of no account keeps the rows without an advantage
        credited = GRPO(scale_rewards="none", top_entropy_quantile=share, entropy_coef=1e-9).credit(rows)
        answers[f"share_{share}"] = [actions_of(one.advantages) for one in credited]
        answers["weights"] = [actions_of(one.weights) for one in credited]
    return answers


def reinforce_pp(given: Given) -> dict[str, Any]:
    rows = [
        row(length, group=str(group), episode=i, reward=reward)
        for i, (reward, length, group) in enumerate(
            zip(given["rewards"], given["lengths"], given["group"], strict=True)
        )
    ]
    answers = {}
    for name, baseline in (("reinforce_pp", "none"), ("reinforce_pp_baseline", "group")):
        algorithm = build("algorithm", {"name": "reinforce_pp", "baseline": baseline, "beta": 0.0})
        credited = {one.episode: actions_of(one.advantages) for one in algorithm.credit(rows)}
        firsts = [credited[i][0] for i in range(len(rows))]
        even = all(set(credited[i]) == {firsts[i]} for i in range(len(rows)))
        answers[name] = firsts if even else list(chain(*credited.values()))
    return answers


def rloo_pm1(given: Given) -> dict[str, Any]:
    return {"advantages": [leave_one_out(rewards) for rewards in given["rewards"]]}


def tensor(numbers: Sequence[Any], dtype: str) -> Tensor:
    """Make a tensor of the named precision."""
    return torch.tensor(numbers, dtype=getattr(torch, dtype))
