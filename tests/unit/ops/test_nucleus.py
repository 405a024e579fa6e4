"""The tokens that top-p leaves."""

from __future__ import annotations

import pytest
import torch

from llmrl.ops.nucleus import ids_of, nucleus


def test_the_case_nlpo_mask() -> None:
    # cumulative .636, .871, .957, .988, 1: the third token passes 0.9; the end (4) is always kept
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -2.0]])
    assert nucleus(logits, 0.9, always=[4]).tolist() == [[True, True, True, False, True]]
    assert nucleus(logits, 0.9).tolist() == [[True, True, True, False, False]]


@pytest.mark.parametrize("least", [1, 2, 5, 100])
def test_the_least_number_is_exact(least: int) -> None:
    logits = torch.zeros(3, 100)
    logits[torch.arange(3), torch.tensor([5, 50, 99])] = 50.0  # one token has all the probability
    assert nucleus(logits, 0.5, least=least).sum(-1).tolist() == [least] * 3


def test_the_set_is_the_smallest_that_exceeds_top_p() -> None:
    torch.manual_seed(0)
    logits = torch.randn(50, 40)
    probabilities = logits.double().softmax(-1)
    for row, kept in zip(probabilities, nucleus(logits, 0.7), strict=True):
        inside = row[kept]
        assert inside.sum() > 0.7
        assert inside.sum() - inside.min() <= 0.7 + 1e-6
        assert inside.min() >= row[~kept].max()


def test_sums_are_of_32_bits_whatever_the_logits_are() -> None:
    # 4,096 equal tokens: in bfloat16 the sum stays at 0.0625 for ever, and everything would be kept
    logits = torch.zeros(1, 4096, dtype=torch.bfloat16)
    assert nucleus(logits, 0.5).sum().item() == pytest.approx(2049, abs=1)


def test_everything_is_kept_from_1_on() -> None:
    assert nucleus(torch.tensor([[9.0, -200.0]]), 1.0).all()


def test_ids_are_ragged() -> None:
    kept = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])
    found = ids_of(kept)
    assert [list(row) for row in found] == [[0, 2], [1], []]
    assert {row.typecode for row in found} == {"i"}
