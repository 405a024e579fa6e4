"""PPO against a slow oracle written from its equations, finite differences, and what must not matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp, isnan, log1p, nan
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from llmrl.algorithms.ppo import PPO
from llmrl.batch import Batch, collate
from llmrl.ops.heads import Bernoulli, Head, Scalar
from llmrl.protocols import Forward
from llmrl.samples import Sample
from tests.builders import changed, sample, some

Loss = Callable[[PPO, "Step"], float]
OFF: dict[str, Any] = {"kl_coef": 0.0, "whiten_advantages": False}
FORMS: list[dict[str, Any]] = [
    {},
    {**OFF, "lam": 0.8, "lam_critic": 0.9, "gamma": 0.95, "bootstrap_truncated": True},
    {"lam": 0.7, "kl_coef": 0.2, "delta": 1.5, "epsilon_high": 0.28, "whiten_rewards": True, "cliprange_value": 0.3},
    {"length_adaptive_lambda": 0.5, "positive_nll_coef": 0.1, "kl_coef": 0.0, "missing_eos_penalty": 0.5},
    {"kl_in_reward": False, "kl_estimator": "k3", "kl_coef": 0.3, "entropy_coef": 0.02},
    {"kl_in_reward": False, "kl_estimator": "k2", "kl_coef": 0.3, "importance_sampling_correction": "none"},
    {"lam": 1.0, "gamma": 0.9, "discounts": {"reward": 1.0, "token_rewards": 0.8}, "kl_coef": 0.2},
]
forms = pytest.mark.parametrize("options", FORMS, ids=str)


@dataclass(frozen=True)
class Step:
    """Rows, and what policy and critic in training say of each: one number per token, what row and place they have."""

    rows: list[Sample]
    logprobs: list[Tensor]
    outputs: list[Tensor]

    def pick(self, order: Sequence[int]) -> Step:
        return Step(*([part[i] for i in order] for part in (self.rows, self.logprobs, self.outputs)))  # type: ignore[arg-type]


def random_step(seed: int) -> Step:
    """12 episodes, two in two rows and one without a score; gaps in their masks, garbage where no action stands."""
    draw = Random(seed)
    rows: list[Sample] = []
    for episode in range(12):
        reward = nan if episode == 7 else float(draw.randint(0, 2))
        cut = draw.random() < 0.3
        for turn in range(2 if episode % 5 == 0 else 1):
            mask = [False, True, *(draw.random() < 0.6 for _ in range(draw.randint(0, 5)))]

            def numbers(mean: float, width: float, mask: list[bool] = mask) -> list[float]:
                return [mean + width * draw.gauss(0, 1) for _ in mask]

            old, off = numbers(-1.5, 0.4), numbers(0.0, 0.5)
            rows.append(
                sample(
                    group=f"g{episode // 4}",
                    episode=episode % 4,
                    reward=reward,
                    turn_rewards=[0.0],
                    token_ids=[len(rows)] * len(mask),
                    turn_ids=[turn if on else -1 for on in mask],
                    action_mask=mask,
                    sampled_logprobs=[(x + y) * on for x, y, on in zip(old, off, mask, strict=True)],
                    truncated=cut,
                    correct=reward > 0,
                    token_rewards=[0.0 if i == 0 else 0.1 * draw.gauss(0, 1) for i in range(len(mask))],
                    old_logprobs=old,
                    ref_logprobs=numbers(-1.5, 0.4),
                    values=numbers(0.5, 0.3),
                    next_values=numbers(0.5, 0.3),
                )
            )
    now = [torch.tensor([x + 0.3 * draw.gauss(0, 1) for x in r.old_logprobs]).double() for r in rows]
    said = [torch.tensor([x + 0.3 * draw.gauss(0, 1) for x in r.values]).double() for r in rows]
    return Step(rows, now, said)


def spread(columns: Sequence[Tensor], rows: Sequence[Sample], pack: bool, junk: float) -> Tensor:
    """(B, T) of a number per token of each row; `junk` where no action stands."""
    shown = [torch.where(torch.tensor(r.action_mask), c, junk) for r, c in zip(rows, columns, strict=True)]
    if pack:
        return torch.cat(shown)[None]
    width = max(map(len, shown))
    return torch.stack([torch.cat([c, c.new_full((width - len(c),), junk)]) for c in shown])


def forwards(head: Head, logprobs: Tensor, outputs: Tensor) -> dict[str, Forward]:
    wide = outputs.unsqueeze(-1)
    policy = Forward(logprobs=logprobs, entropy=0.5 * logprobs.square())  # any function serves as its entropy
    return {
        "policy": policy,
        "critic": Forward(values=head.values(wide), value_loss=lambda targets: head.terms(wide, targets)),
    }


def learn(
    algorithm: PPO, step: Step, *, pack: bool = False, split: int = 1, junk: float = 0.0, head: Head | None = None
) -> dict[str, tuple[float, list[Tensor]]]:
    """Objective and gradient by row of policy and critic, over `split` micro-batches."""
    leaves = {"policy": step.logprobs, "critic": step.outputs}
    leaves = {name: [x.clone().requires_grad_() for x in parts] for name, parts in leaves.items()}
    place = {row.token_ids[0]: i for i, row in enumerate(step.rows)}
    credited = algorithm.credit(step.rows)
    losses = {update.model: update.loss for update in algorithm.updates(0)}
    totals = {name: torch.zeros((), dtype=torch.float64) for name in losses}
    for part in (credited[i::split] for i in range(split)):
        batch: Batch = collate(part, pack, dtype=torch.float64)
        columns = (
            spread([leaves[name][place[r.token_ids[0]]] for r in part], part, pack, junk)
            for name in ("policy", "critic")
        )
        seen = forwards(head or Scalar(), *columns)
        for name, loss in losses.items():
            weights = batch.value_weights if name == "critic" else batch.weights
            totals[name] = totals[name] + (loss(seen[name], batch).terms * weights).sum()
    found = {}
    for name, total in totals.items():
        gradients = torch.autograd.grad(total, leaves[name], allow_unused=True)
        kept = [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, leaves[name], strict=True)]
        found[name] = (total.item(), kept)
    return found


def require_same(left: dict[str, tuple[float, list[Tensor]]], right: dict[str, tuple[float, list[Tensor]]]) -> None:
    assert left.keys() == right.keys()
    for name, (value, gradient) in some(left.items()):
        assert right[name][0] == pytest.approx(value, abs=1e-12)
        for mine, other in zip(gradient, right[name][1], strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


# The oracle: one action at a time, sums written out


def actions(algorithm: PPO, step: Step) -> list[list[dict[str, Any]]]:
    """Actions of each scored episode, in order, with their facts."""
    episodes: dict[tuple[str, int], list[dict[str, Any]]] = {}
    owed: dict[tuple[str, int], float] = {}
    for r, now, said in zip(step.rows, step.logprobs, step.outputs, strict=True):
        if isnan(r.reward):
            continue
        known = episodes.setdefault((r.group, r.episode), [])
        for t, chosen in enumerate(r.action_mask):
            dense = r.token_rewards[t]
            if not chosen:
                if known:
                    known[-1]["token_rewards"] += dense
                else:
                    owed[r.group, r.episode] = owed.get((r.group, r.episode), 0.0) + dense
                continue
            if not known:
                dense += owed.get((r.group, r.episode), 0.0)
            known.append({"token_rewards": dense, "reward": 0.0, "kl": 0.0, "row": r, "now": now[t].item()})
            names = ("old_logprobs", "ref_logprobs", "sampled_logprobs", "values", "next_values")
            known[-1] |= {name: getattr(r, name)[t] for name in names} | {"said": said[t].item()}
    for known in episodes.values():
        last = known[-1]
        last["reward"] += last["row"].reward
        if last["row"].truncated:
            last["reward"] -= algorithm.missing_eos_penalty or 0.0
        for one in known:
            if algorithm.kl_in_reward:
                one["kl"] = -algorithm.kl_coef * (one["old_logprobs"] - one["ref_logprobs"])
            one["earned"] = one["reward"] + one["token_rewards"] + one["kl"]
    return list(episodes.values())


def whitened(numbers: list[float], keep: bool = False) -> list[float]:
    mean = sum(numbers) / len(numbers)
    deviation = (sum((x - mean) ** 2 for x in numbers) / len(numbers) + 1e-8) ** 0.5
    return [(x - mean) / deviation + (mean if keep else 0.0) for x in numbers]


def credit(algorithm: PPO, episodes: list[list[dict[str, Any]]]) -> None:
    """Advantages and targets by their defining sums."""
    everything = [one for known in episodes for one in known]
    if algorithm.whiten_rewards:
        for one, earned in zip(everything, whitened([o["earned"] for o in everything], keep=True), strict=True):
            one["earned"] = earned
    for known in episodes:
        alpha, n = algorithm.length_adaptive_lambda, len(known)
        lam = algorithm.lam if alpha is None else max(0.0, 1 - 1 / (alpha * n))
        end = known[-1]["next_values"] if algorithm.bootstrap_truncated and known[-1]["row"].truncated else 0.0
        after = [one["values"] for one in known[1:]] + [end]
        delta = [o["earned"] + algorithm.gamma * v - o["values"] for o, v in zip(known, after, strict=True)]
        for t, one in enumerate(known):
            one["gain"], error = (
                sum((algorithm.gamma * decay) ** (u - t) * delta[u] for u in range(t, n))
                for decay in (lam, algorithm.lam_critic)
            )
            one["target"] = one["values"] + error
            if algorithm.discounts is not None:
                discount = {"reward": algorithm.gamma, "token_rewards": algorithm.gamma, "kl": 1.0}
                discount |= dict(algorithm.discounts)
                one["target"] = sum(g ** (u - t) * known[u][name] for name, g in discount.items() for u in range(t, n))
                one["gain"] = one["target"] - one["values"]
    if algorithm.whiten_advantages:
        for one, gain in zip(everything, whitened([o["gain"] for o in everything]), strict=True):
            one["gain"] = gain


def oracle(algorithm: PPO, step: Step) -> dict[str, float]:
    episodes = actions(algorithm, step)
    credit(algorithm, episodes)
    everything = [one for known in episodes for one in known]
    right = sum(one["row"].correct for one in everything)
    policy = critic = 0.0
    for one in everything:
        ratio = exp(one["now"] - one["old_logprobs"])
        counted = ratio if algorithm.delta is None else min(ratio, algorithm.delta)
        clipped = min(max(ratio, 1 - algorithm.epsilon), 1 + algorithm.high)
        term = -min(counted * one["gain"], clipped * one["gain"])
        if algorithm.importance_sampling_correction == "token_truncate":
            term *= min(exp(one["old_logprobs"] - one["sampled_logprobs"]), 2.0)
        away = one["now"] - one["ref_logprobs"]
        if not algorithm.kl_in_reward:
            term += algorithm.kl_coef * (away**2 / 2 if algorithm.kl_estimator == "k2" else exp(-away) - 1 + away)
        term -= algorithm.entropy_coef * 0.5 * one["now"] ** 2
        policy += term / len(everything)
        if one["row"].correct:
            policy -= algorithm.positive_nll_coef * one["now"] / right
        square = (one["said"] - one["target"]) ** 2
        if algorithm.cliprange_value is not None:
            moved = min(max(one["said"] - one["values"], -algorithm.cliprange_value), algorithm.cliprange_value)
            square = max(square, (one["values"] + moved - one["target"]) ** 2)
        critic += 0.5 * square / len(everything)
    return {"policy": policy, "critic": critic}


@forms
@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_gradient_against_the_oracle(options: dict[str, Any], seed: int) -> None:
    algorithm, step = PPO(**options), random_step(seed)
    got, want = learn(algorithm, step), oracle(algorithm, step)
    assert {name: value for name, (value, _) in got.items()} == pytest.approx(want, abs=1e-10)
    for name, parts in (("policy", step.logprobs), ("critic", step.outputs)):
        for i, t in ((0, 1), (3, 1), (5, 1), (len(parts) - 1, 1)):
            ends = []
            for nudge in (1e-6, -1e-6):
                moved = [x.clone() for x in parts]
                moved[i][t] += nudge
                other = replace(step, logprobs=moved) if name == "policy" else replace(step, outputs=moved)
                ends.append(oracle(algorithm, other)[name])
            assert got[name][1][i][t].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7)


@forms
@pytest.mark.parametrize(("pack", "split"), [(False, 3), (True, 1), (True, 4)])
def test_neither_split_nor_packing_nor_order_matters(options: dict[str, Any], pack: bool, split: int) -> None:
    algorithm, step = PPO(**options), random_step(2)
    whole = learn(algorithm, step)
    require_same(whole, learn(algorithm, step, pack=pack, split=split))
    order = list(range(len(step.rows)))
    Random(0).shuffle(order)
    mixed = learn(algorithm, step.pick(order), pack=pack, split=split)
    places = [order.index(i) for i in range(len(order))]
    require_same(whole, {name: (value, [gradient[i] for i in places]) for name, (value, gradient) in mixed.items()})


@forms
def test_what_is_not_an_action_cannot_matter(options: dict[str, Any]) -> None:
    algorithm, step = PPO(**options), random_step(3)

    def other(r: Sample) -> Sample:
        names = ("old_logprobs", "ref_logprobs", "values", "next_values", "sampled_logprobs")
        return changed(r, **{name: np.where(r.action_mask, r.get(name), 7.7) for name in names})

    got = learn(algorithm, replace(step, rows=list(map(other, step.rows))), junk=3.3)
    require_same(learn(algorithm, step), got)
    for _, gradients in some(got.values()):
        for r, gradient in zip(step.rows, gradients, strict=True):
            assert not gradient[~torch.tensor(r.action_mask)].any()


@forms
def test_what_was_not_scored_has_no_gradient(options: dict[str, Any]) -> None:
    step = random_step(4)
    for name, (value, gradients) in some(learn(PPO(**options), step).items()):
        assert not isnan(value), name
        assert not any(g.any() for r, g in zip(step.rows, gradients, strict=True) if isnan(r.reward))
        assert any(g.any() for g in gradients)


def test_zero_advantage_is_zero_gradient_of_the_policy() -> None:
    step = random_step(5)
    quiet = [
        changed(r, reward=0.0, token_rewards=None, values=[0.0] * len(r.token_ids), truncated=False) for r in step.rows
    ]
    found = learn(PPO(**OFF), replace(step, rows=quiet))
    assert not any(g.any() for g in found["policy"][1])
    assert found["critic"][0] > 0


def test_the_first_of_several_optimiser_steps_has_ratio_one() -> None:
    step = random_step(6)
    same_now = [torch.tensor(r.old_logprobs, dtype=torch.float64) for r in step.rows]
    algorithm = PPO(importance_sampling_correction="none", **OFF)
    credited = algorithm.credit(step.rows)
    batch = collate(credited, False, dtype=torch.float64)
    place = {row.token_ids[0]: i for i, row in enumerate(step.rows)}
    new = spread([same_now[place[r.token_ids[0]]] for r in credited], credited, False, 0.0)
    loss = algorithm.loss(Forward(logprobs=new), batch)
    assert torch.allclose(loss.terms * batch.weights, -batch.advantages * batch.weights)
    for name in ("clip_ratio/region_mean", "policy/approxkl_avg"):
        assert not (loss.metrics[name] * batch.weights).any()


def test_a_bernoulli_critic_learns_by_cross_entropy() -> None:
    step = random_step(7)
    algorithm = PPO(**OFF)
    flat = [changed(r, reward=float(r.reward > 0), token_rewards=None) for r in step.rows]
    got = learn(algorithm, replace(step, rows=flat), head=Bernoulli())["critic"][0]
    terms = [
        log1p(exp(-x if r.reward > 0 else x))
        for r, said in zip(flat, step.outputs, strict=True)
        for x, on in zip(said.tolist(), r.action_mask, strict=True)
        if on
    ]
    assert got == pytest.approx(sum(terms) / len(terms), abs=1e-10)
