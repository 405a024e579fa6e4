from __future__ import annotations

from random import Random
from statistics import fmean

import pytest

from llmrl.ops.judgement import bins, brier, calibration_error, ranks, roc_auc, spearman


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    draw = Random(0)
    scores = [draw.choice([0.1, 0.2, 0.3, 0.4]) for _ in range(30)]
    labels = [draw.random() < 0.4 for _ in scores]
    pairs = [
        (a, b) for a, x in zip(scores, labels, strict=True) for b, y in zip(scores, labels, strict=True) if x and not y
    ]
    by_hand = fmean((a > b) + 0.5 * (a == b) for a, b in pairs)
    assert roc_auc(scores, labels) == pytest.approx(by_hand, abs=1e-12)
    assert roc_auc([1.0, 2.0], [True, True]) is None


def test_ranks_share_their_place() -> None:
    assert ranks([3.0, 1.0, 3.0, 2.0]) == [3.5, 1.0, 3.5, 2.0]


def test_spearman() -> None:
    assert spearman([1.0, 2.0, 9.0], [-1.0, 0.0, 50.0]) == pytest.approx(1.0)
    assert spearman([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
    assert spearman([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]) == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert spearman([1.0, 1.0], [1.0, 2.0]) is None


def test_chances_against_what_came() -> None:
    chances, came = [0.05, 0.05, 0.95, 1.0], [0.0, 1.0, 1.0, 1.0]
    low, high = bins(chances, came)
    assert (low.count, low.said, low.came) == (2, 0.05, 0.5)
    assert (high.count, high.came) == (2, 1.0)
    assert high.said == pytest.approx(0.975)
    assert calibration_error(chances, came) == pytest.approx((2 * 0.45 + 2 * 0.025) / 4)
    assert brier(chances, came) == pytest.approx((0.0025 + 0.9025 + 0.0025 + 0.0) / 4)
