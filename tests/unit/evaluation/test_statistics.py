"""pass@k, majority and intervals against numbers worked by hand."""

from __future__ import annotations

import pytest

from llmrl.answers.voting import final_answer
from llmrl.evaluation.statistics import difference, estimate, majority, pass_at_k


@pytest.mark.parametrize(
    ("n", "correct", "k", "expected"),
    [
        (4, 2, 1, 2 / 4),
        (4, 2, 2, 1 - 1 / 6),  # of the C(4, 2) = 6 pairs, one holds no right attempt
        (4, 2, 3, 1.0),  # two wrong ones cannot fill three places
        (5, 1, 3, 1 - 4 / 10),  # C(4, 3) / C(5, 3)
        (8, 0, 8, 0.0),
        (8, 8, 1, 1.0),
    ],
)
def test_pass_at_k(n: int, correct: int, k: int, expected: float) -> None:
    assert pass_at_k(n, correct, k) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "correct", "k"), [(2, 1, 3), (2, 3, 1), (2, 1, 0)])
def test_pass_at_k_refuses_what_has_no_meaning(n: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match="expected 1 <= k <= n"):
        pass_at_k(n, correct, k)


@pytest.mark.parametrize(
    ("answers", "right", "expected"),
    [
        (["7", "5", "5"], [True, False, False], False),  # most say 5
        (["7", "7", "5"], [True, True, False], True),
        (["7", "5"], [True, False], True),  # a tie: 7 came first
        (["5", "7"], [False, True], False),
        ([None, None, "7"], [False, False, True], True),  # who says nothing does not vote
        ([None, None], [False, False], False),
    ],
)
def test_majority(answers: list[str | None], right: list[bool], expected: bool) -> None:
    assert majority(answers, right) is expected


def test_an_interval_has_the_width_theory_gives() -> None:
    found = estimate([1.0] * 300 + [0.0] * 700, seed=1)
    half = 1.96 * (0.3 * 0.7 / 1000) ** 0.5  # of the normal approximation: 0.0284
    assert found.value == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3 - half, abs=0.003)
    assert found.high == pytest.approx(0.3 + half, abs=0.003)
    assert found == estimate([1.0] * 300 + [0.0] * 700, seed=1)
    assert found != estimate([1.0] * 300 + [0.0] * 700, seed=2)
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    before = {f"p{i}": float(i % 2) for i in range(400)}
    after = {name: 1.0 if name in {"p0", "p2", "p4", "p6", "p8", "p10"} else value for name, value in before.items()}
    gain = difference(after, before)
    assert gain.value == pytest.approx(6 / 400)
    assert 0 < gain.low < gain.high < 0.03
    assert estimate(list(after.values())).low < estimate(list(before.values())).high


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So $x=\boxed{5}$, no, \boxed{\dfrac{1}{2}}.", r"\frac{1}{2}"),
        ("<think>9</think> <answer> (5 + 3) * 2 </answer>", "(5+3)*2"),
        ("12 of them.\n#### 1,250", "1250"),
        ("The answer is **$42$**.", "42"),
        ("first 3, then -4.5 apples", "-4.5"),
        (r"\boxed{unclosed", None),
        ("nothing", None),
    ],
)
def test_what_a_vote_counts(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer
