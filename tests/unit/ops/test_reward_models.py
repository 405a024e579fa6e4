from __future__ import annotations

from math import exp, log1p

import pytest
import torch
from torch import Tensor

from llmrl.ops.reward_models import (
    IGNORED,
    bradley_terry,
    labelled_bce,
    mean_logit,
    mean_logit_bce,
    sequence_bce,
)


def softplus(x: float) -> float:
    return log1p(exp(x))


def tensor(numbers: object) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_a_pair_is_a_softplus_of_the_gap_with_margin_and_centring() -> None:
    found = bradley_terry(tensor([1.0]), tensor([-0.5]), tensor([2.0]), 0.1)
    assert found.item() == pytest.approx(softplus(2.0 - 1.5) + 0.1 * 0.25, abs=1e-12)


def test_rewards_in_bfloat16_are_compared_in_float32() -> None:
    low = torch.tensor([1000.0, -1000.0], dtype=torch.bfloat16)
    found = bradley_terry(low, -low)
    assert found.dtype == torch.float32
    assert found.tolist() == [0.0, 2000.0]


def test_only_labelled_places_count_and_what_is_padded_may_be_anything() -> None:
    logits = tensor([[0.3, float("inf"), 1.0], [float("nan"), -0.2, 7.0]]).requires_grad_()
    labels = tensor([[1.0, IGNORED, 0.25], [IGNORED, 0.0, IGNORED]])
    total = labelled_bce(logits, labels)
    by_hand = softplus(-0.3) + (0.25 * softplus(-1.0) + 0.75 * softplus(1.0)) + softplus(-0.2)
    assert total.item() == pytest.approx(by_hand, abs=1e-12)
    (slope,) = torch.autograd.grad(total, logits)
    assert torch.isfinite(slope).all()
    assert slope[0, 1] == slope[1, 0] == slope[1, 2] == 0.0


def test_no_label_costs_nothing() -> None:
    assert labelled_bce(tensor([[1.0]]), tensor([[IGNORED]])).item() == 0.0


def test_a_sequence_is_the_mean_of_its_tokens_or_the_loss_of_their_mean() -> None:
    logits = tensor([[1.0, -2.0, float("nan")]])
    mask = torch.tensor([[True, True, False]])
    label = tensor([1.0])
    assert sequence_bce(logits, label, mask).item() == pytest.approx((softplus(-1.0) + softplus(2.0)) / 2, abs=1e-12)
    assert mean_logit(logits, mask).item() == -0.5
    assert mean_logit_bce(logits, label, mask).item() == pytest.approx(softplus(0.5), abs=1e-12)


def split(rows: int) -> list[slice]:
    return [slice(i, i + rows) for i in range(0, 8, rows)]


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("loss", ["labelled", "sequence", "mean"])
def test_any_split_of_a_batch_gives_the_same_gradient(loss: str, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(8, 5, generator=generator) < 0.7
    labels = torch.rand(8, generator=generator, dtype=torch.float64)
    places = labels[:, None].expand(8, 5).where(mask, float(IGNORED))

    def total(part: slice) -> Tensor:
        if loss == "labelled":
            return labelled_bce(logits[part], places[part])
        return (sequence_bce if loss == "sequence" else mean_logit_bce)(logits[part], labels[part], mask[part])

    (whole,) = torch.autograd.grad(total(slice(0, 8)), logits)
    (parts,) = torch.autograd.grad(torch.stack([total(part) for part in split(rows)]).sum(), logits)
    assert torch.allclose(whole, parts, atol=1e-15)
    assert whole.abs().sum() > 1
