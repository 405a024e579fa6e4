from __future__ import annotations

from math import nan
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrl.ops.gae import (
    RunningMoments,
    adapted_kl,
    adaptive_lambda,
    discounted,
    explained_variance,
    fold,
    gae,
    returns,
    spread,
    whiten,
)
from llmrl.samples import Array

ALL = [True, True, True]


def white(*args: Any, **options: Any) -> list[Array]:
    return list(whiten(*args, **options))


def explained(targets: list[float], values: list[float]) -> float | None:
    return explained_variance(RunningMoments().add(targets), RunningMoments().add(np.subtract(targets, values)))


def close(want: list[float]) -> object:
    return pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize(
    ("lam", "want"),
    [
        # Deltas .6 - .5, .8 - .6, 1 - .8 are .1, .2, .2. With .95: .2, .2 + .95 * .2 = .39, .1 + .95 * .39 = .4705.
        (0.0, [0.1, 0.2, 0.2]),
        (0.95, [0.4705, 0.39, 0.2]),
        (1.0, [0.5, 0.4, 0.2]),  # 1 - value
    ],
)
def test_gae_worked_by_hand(lam: float, want: list[float]) -> None:
    assert gae([0, 0, 1], [0.5, 0.6, 0.8], ALL, lam=lam) == close(want)


def test_the_discount_of_a_state_and_of_a_gain() -> None:
    # Backwards with gamma .5, lam .5: 1 - .8 = .2; .5 * .8 - .6 + .25 * .2 = -.15; .5 * .6 - .5 + .25 * -.15 = -.2375.
    assert gae([0, 0, 1], [0.5, 0.6, 0.8], ALL, gamma=0.5, lam=0.5) == close([-0.2375, -0.15, 0.2])


# Two turns with two observed tokens between them, which hold garbage.
VALUES = [0.2, 0.3, 9.0, 9.0, 0.5, 0.6]
MASK = [True, True, False, False, True, True]
REWARDS = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


def test_gae_skips_observed_tokens() -> None:
    # Masked values over all six tokens, as seen elsewhere, would give .6347 and .5628 first: they leak.
    # The four actions alone, deltas .1, .2, .1, .4: .4, .1 + .95 * .4 = .48, .2 + .95 * .48 = .656, .7232.
    want = [0.7232, 0.656, 0.0, 0.0, 0.48, 0.4]
    assert gae(REWARDS, VALUES, MASK, lam=0.95) == close(want)
    compact = gae([0, 0, 0, 1], [0.2, 0.3, 0.5, 0.6], [True] * 4, lam=0.95)
    assert gae(REWARDS, VALUES, MASK, lam=0.95).tolist() == spread(compact, MASK).tolist()


def test_returns_go_on_across_observed_tokens() -> None:
    assert returns(REWARDS, MASK).tolist() == [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    assert returns(REWARDS, MASK, gamma=0.5).tolist() == [0.125, 0.25, 0.0, 0.0, 0.5, 1.0]


@pytest.mark.parametrize("length", [0, 1, 2, 3, 64, 1000])
@pytest.mark.parametrize("decay", [0.0, 0.3, 0.95, 1.0])
def test_discounted_sums_are_those_of_a_loop(length: int, decay: float) -> None:
    draw = Random(length)
    numbers = np.array([draw.gauss(0, 1) for _ in range(length)])
    total, sums = 0.0, []
    for number in reversed(numbers):
        total = number + decay * total
        sums.append(total)
    before = numbers.copy()
    assert discounted(numbers, decay) == close(sums[::-1])
    assert np.array_equal(numbers, before), "what was given stays as it was"


def test_a_cut_episode_may_go_on_with_the_value_of_its_last_state() -> None:
    assert gae([0, 0], [0.4, 0.5], [True] * 2) == close([-0.4, -0.5])
    assert gae([0, 0], [0.4, 0.5], [True] * 2, last=0.7) == close([0.3, 0.2])
    assert gae([0, 0, 0], [0.4, 0.5, 9.0], [True, True, False], last=0.7) == close([0.3, 0.2, 0.0])


def test_two_lambdas_for_two_learners() -> None:
    # Deltas .1, .1, .1, .6; with .5: .6, .4, .3, .25. With 1 each target is the return, 1.
    rewards, values, mask = [0.0, 0.0, 0.0, 1.0], [0.1, 0.2, 0.3, 0.4], [True] * 4
    assert gae(rewards, values, mask, lam=0.5) == close([0.25, 0.3, 0.4, 0.6])
    critic = gae(rewards, values, mask, lam=1.0)
    assert [gain + value for gain, value in zip(critic, values, strict=True)] == close([1.0] * 4)


def test_a_discount_for_each_kind_of_reward() -> None:
    # The dense penalty -.05 twice at .99: -.05 - .0495 = -.0995, -.05, 0; the outcome 1 undiscounted.
    outcome, penalty = returns([0, 0, 1], ALL), returns([-0.05, -0.05, 0], ALL, gamma=0.99)
    assert outcome.tolist() == [1.0, 1.0, 1.0]
    assert penalty == close([-0.0995, -0.05, 0.0])
    assert [a + b - 0.3 for a, b in zip(outcome, penalty, strict=True)] == close([0.6005, 0.65, 0.7])


@given(st.lists(st.tuples(st.booleans(), st.floats(-3, 3), st.floats(-3, 3)), max_size=12), st.floats(0, 1))
def test_gae_of_lambda_one_is_the_return_less_the_value(tokens: list[tuple[bool, float, float]], gamma: float) -> None:
    mask, rewards, values = ([token[i] for token in tokens] for i in range(3))
    gains = gae(rewards, values, mask, gamma=gamma)  # type: ignore[arg-type]
    sums = returns(rewards, mask, gamma=gamma)  # type: ignore[arg-type]
    for gain, total, value, on in zip(gains, sums, values, mask, strict=True):
        assert gain == (pytest.approx(total - value, abs=1e-9) if on else 0.0)


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(0, 99))
def test_what_stands_at_observed_tokens_never_matters(mask: list[bool], seed: int) -> None:
    def two(junk: float) -> tuple[list[float], list[float]]:
        draw = Random(seed)
        first, second = ([draw.gauss(0, 1) if on else junk for on in mask] for _ in range(2))
        return first, second

    clean, dirty = two(0.0), two(nan)
    assert gae(*clean, mask, gamma=0.9, lam=0.8).tolist() == gae(*dirty, mask, gamma=0.9, lam=0.8).tolist()
    assert returns(clean[0], mask, gamma=0.9).tolist() == returns(dirty[0], mask, gamma=0.9).tolist()
    assert white([clean[0]], [mask])[0].tolist() == white([dirty[0]], [mask])[0].tolist()


def test_what_an_observation_earned_goes_to_the_action_before_it() -> None:
    mask = [False, True, True, False, False, True, False]
    assert fold([1, 2, 3, 4, 5, 6, 7], mask).tolist() == [0, 3, 12, 0, 0, 13, 0]
    assert fold([1.0, 2.0], [False, False]).tolist() == [0.0, 0.0]
    assert fold([], []).tolist() == []


@pytest.mark.parametrize(
    ("actions", "lam"), [(0, 0.0), (10, 0.0), (20, 0.0), (100, 0.8), (1000, 0.98), (10_000, 0.998)]
)
def test_lambda_follows_the_length(actions: int, lam: float) -> None:
    assert adaptive_lambda(actions, 0.05) == pytest.approx(lam)


def test_whitening_over_all_action_tokens_of_a_step() -> None:
    # 1, 2, 3, 4, 5: mean 3, variance 2 (2.5 with Bessel's correction); 99 is not an action.
    columns, masks = [[1.0, 2.0, 3.0], [4.0, 5.0, 99.0]], [ALL, [True, True, False]]
    first, second = white(columns, masks)
    assert first == pytest.approx([-1.414213558837561, -0.7071067794187805, 0.0], abs=1e-12)
    assert second == pytest.approx([0.7071067794187805, 1.414213558837561, 0.0], abs=1e-12)
    unbiased = white(columns, masks, bessel=True)
    assert unbiased[0] == pytest.approx([-1.2649110615375296, -0.6324555307687648, 0.0], abs=1e-12)
    kept = white(columns, masks, shift_mean=False)
    assert [kept[i][j] - white(columns, masks)[i][j] for i, j in ((0, 0), (0, 2), (1, 1))] == pytest.approx([3.0] * 3)
    assert kept[1][2] == 0.0


def test_whitening_of_equal_numbers_and_of_nothing() -> None:
    assert white([[0.7, 0.7]], [[True, True]])[0].tolist() == [0.0, 0.0]
    assert white([[0.7]], [[True]], bessel=True)[0].tolist() == [0.0]
    assert white([[5.0]], [[False]])[0].tolist() == [0.0]
    assert white([], []) == []


def test_explained_variance_worked_by_hand() -> None:
    # Errors .2, -.3, .4, -.1: mean .05, variance .0725; of the returns .25.
    assert explained([1, 0, 1, 0], [0.8, 0.3, 0.6, 0.1]) == pytest.approx(0.71)
    assert explained([1, 0], [1, 0]) == 1.0
    assert explained([1, 0], [5, 5]) == 0.0
    worse = explained([1, 0], [-1, 2])
    assert worse is not None
    assert worse < 0


def test_nothing_to_explain_is_not_a_number_near_zero() -> None:
    assert explained([1.0, 1.0], [0.2, 0.9]) is None
    assert explained([1.0, 0.9999999999999999], [0.2, 0.9]) is None
    assert explained([], []) is None


def test_moments_of_large_numbers_are_exact() -> None:
    seen = RunningMoments().add([1e9 + 1, 1e9 + 2, 1e9 + 3])
    assert [seen.count, seen.mean, seen.variance] == [3, 1e9 + 2, pytest.approx(2 / 3)]
    assert RunningMoments().add([]) == RunningMoments(0, 0.0, 0.0)


def test_moments_do_not_depend_on_how_the_numbers_come_in() -> None:
    # 1, 2, 3, 4, 5, 9: mean 4, squares about it 9 + 4 + 1 + 0 + 1 + 25 = 40.
    for parts in ([[1, 2, 3, 4, 5, 9]], [[1], [], [2, 3], [4, 5, 9]], [[9, 5, 4], [3, 2, 1]]):
        seen = RunningMoments()
        for part in parts:
            seen.add(part)
        assert [seen.count, seen.mean, seen.variance] == pytest.approx([6, 4.0, 40 / 6])


def test_the_coefficient_follows_the_divergence() -> None:
    # 10 against 6 is cut to +.2: .2 * (1 + .2 * 256 / 10000); 3 to -.2; 6 leaves it.
    coefficient, seen = 0.2, []
    for observed in (10.0, 3.0, 6.0):
        coefficient = adapted_kl(coefficient, observed, target=6.0, horizon=10_000, samples=256)
        seen.append(coefficient)
    assert seen == close([0.201024, 0.19999475712, 0.19999475712])
