"""Puzzles made on the spot: solvable, repeatable, apart from those that are held out."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import permutations

import pytest

from llmrl.data.countdown_generated import CountdownGenerated
from llmrl.errors import DataError
from llmrl.rewards.countdown import CountdownVerifier
from tests.builders import some


def solvable(nums: tuple[Fraction, ...], target: int) -> bool:
    """By brute force: any two numbers become one, in every way, until one is left."""
    if len(nums) == 1:
        return nums[0] == target
    for a, b, *rest in permutations(nums):
        results = [a + b, a - b, a * b] + ([a / b] if b else [])
        if any(solvable((result, *rest), target) for result in results):
            return True
    return False


def test_every_puzzle_can_be_solved() -> None:
    for problem in some(CountdownGenerated(count=60, counts=(3,)).problems()):
        assert solvable(tuple(map(Fraction, problem.info["nums"])), problem.info["target"])


def test_the_solution_that_comes_with_a_puzzle_is_one() -> None:
    for problem in some(CountdownGenerated(count=300).problems()):
        assert CountdownVerifier()(problem, problem.info["solution"]).verdict == "correct"
        assert 10 <= problem.info["target"] <= 100
        assert all(1 <= number <= 99 for number in problem.info["nums"])


def test_three_and_four_numbers_are_equally_likely() -> None:
    sizes = Counter(len(p.nums) for p in CountdownGenerated(count=1000).puzzles())
    assert set(sizes) == {3, 4}
    assert 440 < sizes[3] < 560  # 500 +- 60 is about four standard deviations


def test_the_seed_decides_and_the_count_only_cuts() -> None:
    long = list(CountdownGenerated(count=50, seed=3).problems())
    assert list(CountdownGenerated(count=20, seed=3).problems()) == long[:20]
    assert list(CountdownGenerated(count=50, seed=4).problems()) != long
    assert len({problem.id for problem in long}) == 50


def test_train_and_heldout_never_share_a_puzzle() -> None:
    def keys(split: str, seed: int) -> set[str]:
        small = CountdownGenerated(split=split, counts=(2,), high_target=20, operators="+", count=12, seed=seed)  # type: ignore[arg-type]
        return {found.key for found in small.puzzles()}

    assert not (keys("train", 0) | keys("train", 1)) & (keys("heldout", 0) | keys("heldout", 1))


def test_the_game_of_24_is_left_to_the_test() -> None:
    small = CountdownGenerated(counts=(4,), low_target=24, high_target=24, count=40)
    assert all(max(found.nums) > 13 for found in small.puzzles())


def test_settings_without_enough_puzzles_are_told() -> None:
    few = CountdownGenerated(counts=(2,), operators="+", low_target=10, high_target=10)  # 1+9 ... 5+5: five sums
    with pytest.raises(DataError, match=r"only \d puzzles found, count is 8000"):
        list(few.problems())


@pytest.mark.parametrize("options", [{"operators": "^"}, {"counts": (1,)}, {"low_target": 50, "high_target": 40}])
def test_odd_settings_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        CountdownGenerated(**options)  # type: ignore[arg-type]
