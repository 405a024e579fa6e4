"""The gradient of an update is a matter of its rows: not of how they are cut, packed, ordered or summed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from llmrl.algorithms.bc import BC
from llmrl.algorithms.grpo import GRPO
from llmrl.batch import collate
from llmrl.ops.logprobs import pieces
from llmrl.protocols import Update
from llmrl.recipe import parse
from llmrl.samples import Sample
from llmrl.train.learners import Learners
from llmrl.train.parallel import accelerator
from tests.builders import changed, sample

TOLERANCE = 1e-6
"""Of the norm of a gradient's error against the norm of the gradient: what float32 sums in another order leave."""

ALGORITHMS: dict[str, GRPO | BC] = {
    "dapo": GRPO(),
    "grpo with KL": GRPO(loss_type="grpo", beta=0.1),
    "dr_grpo": GRPO(loss_type="dr_grpo", max_completion_length=64, scale_rewards="none"),
    "top entropy": GRPO(top_entropy_quantile=0.3, beta=0.1),
    "gspo, reused": GRPO(importance_sampling_level="sequence", num_iterations=2),
    "weighted cloning": BC(weights="reward"),
}


@pytest.fixture
def models(tiny_model_dir: Path) -> Callable[..., Learners]:
    def build(**train: Any) -> Learners:
        recipe = parse(
            {
                "model": {"policy": str(tiny_model_dir)},
                "data": {"name": "arithmetic"},
                "reward": {"name": "numeric"},
                "algorithm": {"name": "grpo"},
                "train": {"max_grad_norm": float("inf"), "report_to": "none", **train},
            }
        )
        return Learners(recipe, accelerator(recipe.train), frozenset({"ref_logprobs"}))

    return build


def step(groups: int = 4, episodes: int = 4, longest: int = 40) -> list[Sample]:
    """Rows of random tokens: a prompt, words of the policy, a reply that it did not choose, and words again."""
    random = Random(1)
    rows = []
    for group in range(groups):
        prompt = [random.randrange(10, 250) for _ in range(random.randint(4, 24))]
        for episode in range(episodes):
            first, reply, second = random.randint(1, longest), random.randint(1, 6), random.randint(1, longest)
            turns = [-1] * len(prompt) + [0] * first + [-1] * reply + [1] * second + [-1] * 3
            rows.append(
                sample(
                    group=str(group),
                    episode=episode,
                    reward=random.random(),
                    turn_rewards=[0.0, 0.0],
                    token_ids=prompt + [random.randrange(10, 250) for _ in range(len(turns) - len(prompt))],
                    turn_ids=turns,
                    action_mask=[turn >= 0 for turn in turns],
                    sampled_logprobs=[0.0] * len(turns),
                )
            )
    return rows


def credited(found: Learners, algorithm: GRPO | BC, rows: Sequence[Sample]) -> list[Sample]:
    """The rows with all columns. The old policy and the engine's differ from the new one, as after some updates."""
    noise = Random(2)
    annotated = found.annotate(rows, {"old_logprobs", "ref_logprobs", "old_entropy"})
    made = []
    for row in annotated:
        old = [value + noise.gauss(0.0, 0.2) for value in row.old_logprobs]
        ref = [value + noise.gauss(0.0, 0.2) for value in row.ref_logprobs]
        sampled = [value + noise.gauss(0.0, 0.2) for value in old]
        made.append(row.assign(old_logprobs=old, sampled_logprobs=sampled, ref_logprobs=ref))
    return algorithm.credit(made)


def gradients(found: Learners, rows: Sequence[Sample], update: Update, seed: int = 0) -> list[dict[str, Tensor]]:
    """Gradients of each optimiser step; the learning rate is 0, so the weights stay."""
    caught: list[dict[str, Tensor]] = []

    def keep(*_: Any) -> None:
        named = found.policy.net.named_parameters()
        caught.append({name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None})

    hook = found.policy.optimizer.optimizer.register_step_pre_hook(keep)
    for _, fit in found.fit(rows, update, seed=seed, rate=0.0):
        assert fit.applied
    hook.remove()
    return caught


def gradient(found: Learners, rows: Sequence[Sample], algorithm: GRPO | BC) -> dict[str, Tensor]:
    """The gradient of a single pass over all the rows."""
    (only,) = gradients(found, rows, Update("policy", algorithm.loss))
    return only


def error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert found.keys() == expected.keys()
    gap = torch.stack([(found[name] - expected[name]).norm() for name in expected]).norm()
    size = torch.stack([value.norm() for value in expected.values()]).norm()
    assert size > 1e-3, "nothing to compare"
    return float(gap / size)


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=list(ALGORITHMS))
def test_neither_the_budget_nor_packing_changes_the_gradient(
    models: Callable[..., Learners], algorithm: GRPO | BC
) -> None:
    reference = models(packing=False)
    rows = credited(reference, algorithm, step())
    whole = gradient(reference, rows, algorithm)
    for packing in (False, True, "auto"):
        for budget in (1, 150, 400, 4000):
            found = models(packing=packing, tokens_per_device=budget)
            gap = error(gradient(found, rows, algorithm), whole)
            assert gap < TOLERANCE, f"packing {packing}, budget {budget}: {gap:.1e}"
            assert found.policy.net.by_rows is (packing is not False)


def test_packed_rows_have_the_same_gradient_under_a_mask_of_them_all(
    models: Callable[..., Learners], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of models that cannot read by rows, where `train.packing: true` asks for it."""
    monkeypatch.setattr("llmrl.train.row_attention.reason_against", lambda *_: "a test says so")
    algorithm, padded, packed = ALGORITHMS["dapo"], models(packing="auto"), models(packing=True)
    rows = credited(padded, algorithm, step())
    assert error(gradient(packed, rows, algorithm), gradient(padded, rows, algorithm)) < TOLERANCE
    assert packed.policy.pack
    assert not packed.policy.net.by_rows
    assert not padded.policy.pack


def test_neither_the_order_of_the_rows_nor_checkpointing_changes_the_gradient(models: Callable[..., Learners]) -> None:
    found, algorithm = models(tokens_per_device=300), ALGORITHMS["dapo"]
    rows = credited(found, algorithm, step())
    whole = gradient(found, rows, algorithm)
    for seed in range(3):
        mixed = Random(seed).sample(rows, len(rows))
        assert error(gradient(found, mixed, algorithm), whole) < TOLERANCE
    assert error(gradient(models(gradient_checkpointing=True), rows, algorithm), whole) < TOLERANCE
    padded = models(gradient_checkpointing=True, packing=False)
    assert error(gradient(padded, rows, algorithm), whole) < TOLERANCE


def test_logits_in_pieces_give_the_same_gradient(models: Callable[..., Learners]) -> None:
    algorithm = ALGORITHMS["dapo"]
    found, small = models(), models(logits_chunk_mb=1)
    rows = credited(found, algorithm, step(longest=120))
    actions = sum(row.actions for row in rows)
    assert pieces(actions, small.policy.vocabulary, 1) > 1
    assert error(gradient(small, rows, algorithm), gradient(found, rows, algorithm)) < TOLERANCE


@pytest.mark.parametrize("parts", [2, 4, 5])
def test_minibatches_average_to_the_whole(models: Callable[..., Learners], parts: int) -> None:
    found, algorithm = models(), ALGORITHMS["dapo"]
    rows = credited(found, algorithm, step())
    assert len(rows) == 16
    steps = gradients(found, rows, Update("policy", algorithm.loss, minibatches=parts))
    sizes = [16 // parts + (i < 16 % parts) for i in range(parts)]
    mean = {
        name: sum((one[name] * size / 16 for one, size in zip(steps, sizes, strict=True)), torch.zeros(()))
        for name in steps[0]
    }
    assert error(mean, gradient(found, rows, algorithm)) < TOLERANCE
    assert error(steps[0], mean) > 0.1, "a minibatch alone is another gradient"


def test_a_masked_token_cannot_matter(models: Callable[..., Learners]) -> None:
    found, algorithm = models(), ALGORITHMS["grpo with KL"]
    rows = credited(found, algorithm, step())
    whole = gradient(found, rows, algorithm)

    named = ("sampled_logprobs", "old_logprobs", "ref_logprobs", "advantages")
    loud = [changed(r, **{name: np.where(r.action_mask, r.get(name), 7.0) for name in named}) for r in rows]
    assert error(gradient(found, loud, algorithm), whole) == 0.0

    tail = [changed(row, token_ids=[*row.token_ids[:-3], 9, 8, 7]) for row in rows]
    assert error(gradient(found, tail, algorithm), whole) < TOLERANCE, "what follows the last action"

    read = [changed(row, token_ids=[9, *row.token_ids[1:]]) for row in rows]
    assert error(gradient(found, read, algorithm), whole) > 1e-3, "what the policy has read does matter"


def test_equal_rewards_teach_nothing(models: Callable[..., Learners]) -> None:
    found, algorithm = models(), ALGORITHMS["dapo"]
    before = [parameter.clone() for parameter in found.policy.net.parameters()]
    equal = [replace(row, reward=1.0) for row in step()]
    rows = credited(found, algorithm, equal)
    for update in algorithm.updates(0):
        assert list(found.fit(rows, update, seed=0, rate=0.1)) == []
    after = list(found.policy.net.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))

    rows = credited(found, algorithm, step())
    for update in algorithm.updates(0):
        assert len(list(found.fit(rows, update, seed=0, rate=0.1))) == 1
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True)), "unequal rewards move every weight"


def test_the_old_policy_is_the_policy_until_it_moves(models: Callable[..., Learners]) -> None:
    rows = models(tokens_per_device=200, packing=False).annotate(step(), {"old_logprobs", "ref_logprobs"})
    for packing in (False, True):
        found = models(packing=packing)
        batch = collate([row.assign(weights=1.0, advantages=1.0) for row in rows], pack=packing)
        with torch.no_grad():
            new = found.policy.forward(batch, chunks=1)
        ratio = torch.exp(new.logprobs - batch.old_logprobs)[batch.action_mask]
        assert float((ratio - 1).abs().max()) < 2e-6
        assert torch.equal(batch.old_logprobs, batch.ref_logprobs), "the reference is the model it began with"
