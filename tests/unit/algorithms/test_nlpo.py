"""NLPO: PPO over the tokens that were kept, with a mask that lags."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from llmrl.algorithms.nlpo import NLPO
from llmrl.algorithms.ppo import PPO
from llmrl.batch import Batch, collate
from llmrl.errors import RecipeError
from llmrl.ops.kl import k3
from llmrl.ops.logprobs import kept_logprobs, predicting
from llmrl.ops.nucleus import ids_of, nucleus
from llmrl.plugins import build
from llmrl.protocols import Algorithm, Forward
from llmrl.samples import Sample
from tests.builders import changed, sample

BARE: dict[str, Any] = {"kl_coef": 0.0, "whiten_advantages": False, "lam": 1.0, "minibatches": 1}
TOKENS, VOCABULARY = 3, 6


def spoken(logits: Tensor, allowed: Tensor, episode: int, generator: torch.Generator, **columns: Any) -> Sample:
    """A prompt token, then one token drawn at each of T positions from (T, V) logits, among those allowed."""
    masked = logits.detach().masked_fill(~allowed, -torch.inf).log_softmax(-1)
    drawn = torch.multinomial(masked.exp(), 1, generator=generator)[:, 0]
    whole = logits.detach().log_softmax(-1)
    at = torch.arange(len(drawn))
    return changed(
        sample(
            group=str(episode),
            episode=0,
            reward=0.0,
            turn_rewards=[0.0],
            token_ids=[0, *drawn.tolist()],
            turn_ids=[-1] + [0] * len(drawn),
            action_mask=[False] + [True] * len(drawn),
            sampled_logprobs=[0.0, *masked[at, drawn].tolist()],
            semantics="renormalised",
            support_ids=[(), *ids_of(allowed)],
            old_logprobs=[0.0, *whole[at, drawn].tolist()],
            old_kept_logprobs=[0.0, *masked[at, drawn].tolist()],
            values=[0.0] * (len(drawn) + 1),
        ),
        **columns,
    )


def forward(logits: Tensor, batch: Batch) -> Forward:
    """Forward pass of a table of (T, V) logits over a padded batch whose rows have one prompt token."""
    assert batch.support_ids is not None
    chosen = predicting(batch.action_mask)
    states = logits[chosen.columns - 1]
    kept = chosen.kept(batch.support_ids, batch.support_counts)
    found = kept_logprobs(states, nn.Identity(), chosen.tokens(batch.token_ids), kept, entropy_grad=True)
    logprobs, entropy, inside, left = map(chosen.scatter, found)
    return Forward(logprobs=logprobs, entropy=entropy, kept_logprobs=inside, kept_entropy=left)


def draw(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits in float64 and what a nucleus of other logits allows."""
    torch.manual_seed(seed)
    return torch.randn(TOKENS, VOCABULARY, dtype=torch.float64), nucleus(torch.randn(TOKENS, VOCABULARY), 0.6)


def rows_of(logits: Tensor, allowed: Tensor, count: int = 8, **columns: Any) -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    return [spoken(logits, allowed, i, generator, reward=float(i % 3), **columns) for i in range(count)]


def test_it_is_an_algorithm() -> None:
    algorithm = build("algorithm", {"name": "nlpo", "kl_coef": 0.01})
    assert isinstance(algorithm, Algorithm)
    assert pickle.loads(pickle.dumps(algorithm)) == algorithm
    assert isinstance(algorithm, NLPO)
    adapted = replace(algorithm, kl_target=1.0).adapted(0, {"objective/kl": 9.0, "objective/episodes": 1000.0})
    assert isinstance(adapted, NLPO)
    assert adapted.kl_coef > 0.01


def test_needs_both_policies_before_the_step() -> None:
    assert NLPO().needs() == {"values", "ref_logprobs", "old_logprobs", "old_kept_logprobs"}
    assert NLPO(**BARE).needs() == {"values"}
    assert NLPO(minibatches=1).needs() == {"values", "ref_logprobs", "old_logprobs"}, "the divergence is of the whole"


def test_kept_ids_make_renormalised_rows_right_and_nothing_else_does() -> None:
    rows = rows_of(*draw())
    assert NLPO(**BARE).credit(rows)
    with pytest.raises(RecipeError, match="return_kept_ids=true"):
        NLPO(**BARE).credit([changed(rows[0], support_ids=None)])
    with pytest.raises(RecipeError, match="renormalised"):
        PPO(**BARE).credit(rows)


def test_a_divergence_in_the_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="kl_in_reward: true"):
        NLPO(kl_in_reward=False, kl_estimator="k3")


def test_the_divergence_in_the_reward_is_of_the_whole_policy() -> None:
    logits, allowed = draw()
    ref = [0.0, -1.0, -2.0, -3.0]
    (row,) = rows_of(logits, allowed, 1, ref_logprobs=ref)
    (credited,) = NLPO(**BARE | {"kl_coef": 0.5}).credit([row])
    paid = -0.5 * sum(old - r for old, r in zip(row.old_logprobs[1:], ref[1:], strict=True))
    assert credited.returns[1] == pytest.approx(paid)


def loss_of(logits: Tensor, rows: list[Sample], algorithm: NLPO) -> Tensor:
    batch = collate(rows, pack=False, dtype=torch.float64)
    return (algorithm.loss(forward(logits, batch), batch).terms * batch.weights).sum()


@pytest.mark.parametrize("options", [{}, {"entropy_coef": 0.1}, {"importance_sampling_correction": "none"}])
def test_the_loss_is_ppos_of_the_renormalised_policy(options: dict[str, Any]) -> None:
    logits, allowed = draw()
    algorithm = NLPO(**BARE | {"num_ppo_epochs": 2} | options)
    rows = algorithm.credit(rows_of(logits, allowed))
    moved = (logits + 0.3 * torch.randn_like(logits)).requires_grad_()

    masked = moved.masked_fill(~allowed, -torch.inf).log_softmax(-1)
    finite = masked.masked_fill(~allowed, 0.0)
    entropy = -(finite.exp() * finite * allowed).sum(-1)
    want = torch.zeros((), dtype=torch.float64)
    for row in rows:
        for t, token in enumerate(row.token_ids[1:]):
            ratio = (masked[t, token] - row.old_kept_logprobs[t + 1]).exp()
            gain = row.advantages[t + 1]
            term = -torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain) - algorithm.entropy_coef * entropy[t]
            want = want + term * row.weights[t + 1]

    got = loss_of(moved, rows, algorithm)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    expected, found = (torch.autograd.grad(total, moved)[0] for total in (want, got))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert found[~allowed].abs().max() < 1e-15, "what could not be said has no gradient"


def test_the_gradient_is_that_of_finite_differences() -> None:
    logits, allowed = draw(3)
    algorithm = NLPO(**BARE | {"num_ppo_epochs": 2, "entropy_coef": 0.1})
    rows = algorithm.credit(rows_of(logits, allowed))
    moved = (logits + 0.05 * torch.randn_like(logits)).requires_grad_()  # inside the clip, away from its corners
    assert torch.autograd.gradcheck(lambda x: loss_of(x, rows, algorithm), (moved,), eps=1e-6, atol=1e-7)


def test_the_first_ratio_is_1_whatever_was_left_out() -> None:
    logits, allowed = draw()
    algorithm = NLPO(num_ppo_epochs=2)
    rows = algorithm.credit(rows_of(logits, allowed, ref_logprobs=[0.0, -1.0, -1.0, -1.0]))
    batch = collate(rows, pack=False, dtype=torch.float64)
    seen = algorithm.loss(forward(logits, batch), batch).metrics
    assert seen["clip_ratio/region_mean"].abs().max() == 0
    assert seen["policy/approxkl_avg"][batch.action_mask].max() < 1e-12


def test_metrics_say_what_the_mask_leaves_out() -> None:
    logits, allowed = draw()
    algorithm = NLPO(num_ppo_epochs=2)
    rows = algorithm.credit(rows_of(logits, allowed, ref_logprobs=[0.0, -1.0, -1.5, -2.0]))
    batch = collate(rows, pack=False, dtype=torch.float64)
    new = forward(logits, batch)
    seen = algorithm.loss(new, batch).metrics
    outside = logits.softmax(-1).masked_fill(allowed, 0.0).sum(-1)
    torch.testing.assert_close(seen["nlpo/mass_outside"][0, 1:], outside)
    assert seen["nlpo/kept_tokens"][0, 1:].tolist() == allowed.sum(-1).tolist()
    torch.testing.assert_close(seen["kl"], k3(new.logprobs, batch.ref_logprobs))
    torch.testing.assert_close(seen["nlpo/kl_kept"], k3(new.kept_logprobs, batch.ref_logprobs))


def test_packing_and_splitting_leave_the_gradient_as_it_is() -> None:
    logits, allowed = draw()
    algorithm = NLPO(**BARE | {"num_ppo_epochs": 2})
    rows = algorithm.credit(rows_of(logits, allowed))
    moved = (logits + 0.2 * torch.randn_like(logits)).requires_grad_()
    (whole,) = torch.autograd.grad(loss_of(moved, rows, algorithm), moved)
    parts = [torch.autograd.grad(loss_of(moved, rows[i : i + 3], algorithm), moved)[0] for i in range(0, 8, 3)]
    torch.testing.assert_close(sum(parts), whole, rtol=0, atol=1e-12)


# A toy: two tokens of probability 0.01 each, whose rewards are noise; token 2 is right at every position

TOXIC = (4, 5)


def prior() -> Tensor:
    probabilities = torch.tensor([0.39, 0.3, 0.19, 0.1, 0.01, 0.01])
    return probabilities.log().repeat(TOKENS, 1).double()


def reward(row: Sample, generator: torch.Generator) -> float:
    noise = 4.0 * torch.randn((), generator=generator).item() if np.isin(row.token_ids, TOXIC).any() else 0.0
    return float(np.mean(row.token_ids[1:] == 2)) + noise


def learn(refresh: int, steps: int, seed: int, top_p: float = 0.9) -> tuple[Tensor, list[set[int]], list[Tensor]]:
    """The logits after so many steps of 32 samples, what was said in each step, and what was allowed."""
    generator = torch.Generator().manual_seed(seed)
    logits = prior().requires_grad_()
    algorithm = NLPO(**BARE | {"whiten_advantages": True, "num_ppo_epochs": 2})
    said, masks = [], []
    for step in range(steps):
        if step % refresh == 0:
            lagging = logits.detach().clone()
        allowed = nucleus(lagging, top_p)
        rows = [spoken(logits, allowed, i, generator) for i in range(32)]
        rows = algorithm.credit([replace(row, reward=reward(row, generator)) for row in rows])
        said.append({token for row in rows for token in row.token_ids[1:]})
        masks.append(allowed)
        for _ in range(algorithm.num_ppo_epochs):
            (gradient,) = torch.autograd.grad(loss_of(logits, rows, algorithm), logits)
            logits = (logits - 3.0 * gradient).detach().requires_grad_()
    return logits, said, masks


@pytest.mark.parametrize("seed", range(3))
def test_what_the_mask_leaves_out_is_never_said_before_it_is_refreshed(seed: int) -> None:
    _, said, masks = learn(refresh=20, steps=20, seed=seed)
    assert not any(tokens & set(TOXIC) for tokens in said)
    assert all(torch.equal(mask, masks[0]) for mask in masks)
    _, free, _ = learn(refresh=1, steps=20, seed=seed, top_p=1.0)
    assert any(tokens & set(TOXIC) for tokens in free), "without a mask they are said"


@pytest.mark.parametrize("seed", range(3))
def test_it_learns_and_its_refresh_moves_the_support(seed: int) -> None:
    logits, _, masks = learn(refresh=10, steps=41, seed=seed)
    assert logits.softmax(-1)[:, 2].min() > 0.9
    assert masks[0].sum() == 4 * TOKENS
    assert masks[-1].sum() == TOKENS, "above 0.9 the right token is all that is kept, and there is no more to learn"
