"""Scores and backups of tree search: the cases of the specification, and properties."""

from __future__ import annotations

import pytest

from llmrl.ops.tree_search import backed_up_x1, puct, uct_x1


def test_puct_by_hand() -> None:
    # 0.2 + 1.5 0.5 3 / 4, -0.1 + 1.5 0.7 3 / 2, 0 + 1.5 0.3 3 / 1
    scores = puct([0.2, -0.1, 0.0], [3, 1, 0], [0.5, 0.7, 0.3], 9, 1.5)
    assert scores == pytest.approx([0.7625, 1.475, 1.35], abs=1e-12)


def test_x1_by_hand() -> None:
    scores = uct_x1([0.5, -0.2, 0.1], [4, 1, 2], 8, (-1, 1))
    assert scores == pytest.approx([1.4116531921412057, 2.054132980353014, 1.6527553202353427], abs=1e-12)
    assert uct_x1([0.5], [0], 0, (-1, 1)) == [0.75], "before the first backup nothing draws it"


def test_the_backup_of_x1_by_hand() -> None:
    # (4 0.5 - 0.2 + 2 0.1) / 7 = 2 / 7, times 0.96
    assert backed_up_x1(0.3, [0.5, -0.2, 0.1], [4, 1, 2]) == pytest.approx(0.96 * 2 / 7)
    assert backed_up_x1(0.3, [0.5, -0.2, 0.1], [4, 1, 2], learning_rate=0.5) == pytest.approx(0.15 + 0.48 * 2 / 7)
