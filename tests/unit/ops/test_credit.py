from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import nan, sqrt
from random import Random
from typing import Any

import pytest
import torch

from llmrl.errors import RecipeError
from llmrl.ops.credit import average, by_channel, by_group, center, leave_one_out, most_uncertain
from llmrl.samples import Sample
from tests import builders
from tests.builders import changed

REWARDS = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]


row = partial(builders.row, actions=1)


def test_center_worked_by_hand() -> None:
    # Mean 3/8. Squared distances: 3 x (5/8)^2 + 5 x (3/8)^2 = 120/64; over 7, rooted: 0.517549.
    assert center([REWARDS], "none")[0] == [0.625, -0.375, -0.375, 0.625, 0.625, -0.375, -0.375, -0.375]
    scaled = center([REWARDS], "group")[0]
    assert scaled[0] == pytest.approx(0.625 / (0.5175491695067657 + 1e-4), abs=1e-12)
    assert scaled[1] == pytest.approx(-0.375 / (0.5175491695067657 + 1e-4), abs=1e-12)


def test_center_by_the_deviation_of_the_whole_batch() -> None:
    # All rewards 1, 0, 3, 1: mean 5/4, squared distances 1/16 + 25/16 + 49/16 + 1/16 = 19/4; over 3, rooted: 1.258306.
    gains = center([[1.0, 0.0], [3.0, 1.0]], "batch")
    assert gains[0] == pytest.approx([0.5 / 1.2584057392117915, -0.5 / 1.2584057392117915], abs=1e-12)
    assert gains[1] == pytest.approx([1 / 1.2584057392117915, -1 / 1.2584057392117915], abs=1e-12)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("group", [[1.0] * 4, [0.1 + 0.2, 0.3, 0.3], [5.0], [nan, 5.0], [nan, nan], []])
def test_a_group_without_a_signal_gets_exactly_nothing(scale: str, group: list[float]) -> None:
    gains = center([group, [0.0, 1.0]], scale)  # type: ignore[arg-type]
    assert gains[0] == [0.0] * len(group)
    assert gains[1][1] > 0


def test_a_reward_that_nobody_could_give_is_left_out() -> None:
    assert center([[1.0, nan, 0.0]], "none") == [[0.5, 0.0, -0.5]]
    best, worst = center([[1.0, 0.0]], "batch")[0]
    assert center([[1.0, nan, 0.0], [nan]], "batch") == [[best, 0.0, worst], [0.0]]
    assert leave_one_out([1.0, nan, 0.0]) == [1.0, 0.0, -1.0]


def test_leave_one_out_worked_by_hand() -> None:
    assert leave_one_out(REWARDS)[:2] == pytest.approx([0.7142857142857143, -0.42857142857142855], abs=1e-12)
    assert leave_one_out([1.0, -1.0, -1.0, 1.0]) == pytest.approx([4 / 3, -4 / 3, -4 / 3, 4 / 3], abs=1e-12)
    assert leave_one_out([-1.0, -1.0, -1.0, 1.0]) == pytest.approx([-2 / 3, -2 / 3, -2 / 3, 2.0], abs=1e-12)
    assert leave_one_out([1.0, 1.0]) == [0.0, 0.0]
    assert leave_one_out([1.0]) == [0.0]


def test_groups_keep_the_order_in_which_they_come() -> None:
    rows = [row("b", 0), row("a", 1), row("b", 0, actions=2), row("b", 2), row("a", 0)]
    groups = by_group(rows)
    assert [[[r.actions for r in episode] for episode in group] for group in groups] == [[[1, 2], [1]], [[1], [1]]]
    assert [[episode[0].episode for episode in group] for group in groups] == [[0, 2], [1, 0]]


@pytest.mark.parametrize(
    ("over", "want"), [("token", (4 + 4) / 6), ("sequence", (1 + 2) / 2), ("constant", (4 + 4) / (2 * 8))]
)
def test_averages_worked_by_hand(over: str, want: float) -> None:
    # Four terms of 1 and two terms of 2.
    rows = average([row(episode=0, actions=4), row(episode=1, actions=2)], over, 8)  # type: ignore[arg-type]
    assert sum(sum(r.weights) * term for r, term in zip(rows, (1.0, 2.0), strict=True)) == pytest.approx(want)
    assert all(r.weights[0] == 0.0 for r in rows)


@pytest.mark.parametrize("over", ["token", "sequence", "constant"])
def test_an_episode_in_several_rows_counts_once(over: str) -> None:
    whole = average([row(episode=0, actions=6), row(episode=1, actions=2)], over, 8)  # type: ignore[arg-type]
    split = average(
        [row(episode=0, actions=4), row(episode=1, actions=2), row(episode=0, actions=2)],
        over,  # type: ignore[arg-type]
        8,
    )
    assert sum(split[0].weights) + sum(split[2].weights) == pytest.approx(sum(whole[0].weights))
    assert split[1].weights.tolist() == whole[1].weights.tolist()


def test_a_row_without_actions_weighs_nothing_and_is_not_counted() -> None:
    rows = average([row(episode=0, actions=2), row(episode=1, actions=0)], "sequence")
    assert rows[0].weights.tolist() == [0.0, 0.5, 0.5]
    assert rows[1].weights.tolist() == [0.0]
    assert average([row(actions=0)], "token")[0].weights.tolist() == [0.0]


def test_a_constant_average_needs_its_constant() -> None:
    with pytest.raises(ValueError, match="length None"):
        average([row()], "constant")


def sure(entropies: list[float], episode: int = 0, prompt: float = 9.0) -> Sample:
    """A row with advantages of 1; its prompt, which nobody chose, is the least sure of all."""
    return changed(row(episode=episode, actions=len(entropies)), old_entropy=[prompt, *entropies]).assign(
        advantages=1.0
    )


def left(rows: list[Sample], share: float) -> list[list[float]]:
    return [r.advantages[1:].tolist() for r in most_uncertain(rows, share)]


def test_the_most_uncertain_tokens_worked_by_hand() -> None:
    # Sorted .1 .2 .4 .8 .9; with 0.4 the quantile stands at place 4 x 0.6 = 2.4, at .4 + .4 x .4 = .56.
    rows = [sure([0.1, 0.9, 0.4]), sure([0.8, 0.2], episode=1)]
    assert left(rows, 0.4) == [[0.0, 1.0, 0.0], [1.0, 0.0]]
    assert left(rows, 0.0) == [[0.0, 1.0, 0.0], [0.0, 0.0]]
    assert left(rows, 1.0) == [[1.0] * 3, [1.0] * 2]
    assert left([sure([0.3, 0.3, 0.3, 0.1])], 0.25) == [[1.0, 1.0, 1.0, 0.0]], "equal ones stay together"
    assert left([sure([]), sure([], episode=1)], 0.5) == [[], []]
    before = [changed(one, weights=[0.0, *[0.5] * one.actions]) for one in rows]
    assert [one.weights.tolist() for one in most_uncertain(before, 0.4)] == [one.weights.tolist() for one in before]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 1.0])
def test_the_most_uncertain_are_those_of_a_quantile(share: float) -> None:
    # Eleven numbers apart, so that a place such as 10 x 0.3 is whole, and rounding must not move it.
    numbers = torch.randperm(11, generator=torch.Generator().manual_seed(3)).double()
    assert sum(left([sure(numbers.tolist())], share)[0]) == round(10 * share) + 1
    ragged = torch.rand(37, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    wanted = ragged >= torch.quantile(ragged, 1 - share)
    assert left([sure(ragged.tolist())], share)[0] == wanted.double().tolist()


RLSP = {"correct": 0.8, "explore": 0.2}


def made(correct: Sequence[float], explore: Sequence[float], group: str = "g") -> list[list[Sample]]:
    """A group of episodes whose reward has two parts."""
    return [
        [replace(row(group, i, 0.8 * c + 0.2 * e), turn_rewards=[0.0], parts={"correct": c, "explore": e})]
        for i, (c, e) in enumerate(zip(correct, explore, strict=True))
    ]


def test_channels_worked_by_hand() -> None:
    # Both parts have mean 1/2 and deviation sqrt(4 x 1/4 / 3) = .57735; .5 / (.57735 + .0001) = .865875.
    group, unit = made([1, 0, 0, 1], [1, 1, 0, 0]), 0.8658754297607017
    (gains,) = by_channel([group], RLSP)
    assert gains == pytest.approx([unit, -0.6 * unit, -unit, 0.6 * unit], abs=1e-12)
    assert by_channel([group], {"explore": 0.2})[0] == pytest.approx([0.2 * unit, 0.2 * unit, -0.2 * unit, -0.2 * unit])
    # A part that says nothing within a group counts nothing there; the other keeps its own weight.
    wrong = made([0, 0], [0.51, 0.5], "h")
    assert by_channel([group, wrong], RLSP)[1] == pytest.approx([0.2 * 0.005 / (0.01 / sqrt(2) + 1e-4), -0.13944925])
    assert by_channel([made([1, 1], [0.5, 0.5])], RLSP) == [[0.0, 0.0]]


@pytest.mark.parametrize("scale", ["none", "group", "batch"])
def test_unscaled_channels_are_the_gains_of_their_sum(scale: str) -> None:
    groups = [made([1, 0, 0, 1], [0.3, 0.9, 0.1, 0.2]), made([0, 0, 1], [0.5, 0.8, 0.4], "h")]
    apart = by_channel(groups, RLSP, scale)  # type: ignore[arg-type]
    whole = center([[one[0].reward for one in group] for group in groups], scale)  # type: ignore[arg-type]
    same = [a == pytest.approx(b, abs=1e-12) for a, b in zip(apart, whole, strict=True)]
    assert same == ([True, True] if scale == "none" else [False, False])


def test_a_reward_that_nobody_could_give_has_no_channels() -> None:
    whole, holed = made([1, 0, 0], [0.1, 0.2, 0.9]), made([1, 0, 1, 0], [0.1, 0.2, 7.0, 0.9])
    holed[2] = [replace(holed[2][0], reward=nan, parts={})]
    first, second, third = by_channel([whole], RLSP)[0]
    assert by_channel([holed], RLSP) == [[first, second, 0.0, third]]


def test_a_part_that_abstains_leaves_its_channel_to_the_others() -> None:
    # Of [1, 0, 0] the mean is 1/3 and the deviation .57735: 2/3 and -1/3 over .57745 are 1.154501 and -.577250.
    group, unit = made([1, 0, 0, 1], [1, 1, 0, 0]), 0.8658754297607017
    group[1] = [replace(group[1][0], parts={"correct": 0.0, "explore": nan})]
    (gains,) = by_channel([group], RLSP)
    assert gains == pytest.approx(
        [0.8 * unit + 0.2 * 1.154501, -0.8 * unit, -0.8 * unit - 0.2 * 0.57725, 0.8 * unit - 0.2 * 0.57725], abs=1e-6
    )
    silent = [[replace(row, parts={"correct": row.parts["correct"], "explore": nan}) for row in e] for e in group]
    assert by_channel([silent], RLSP)[0] == pytest.approx([0.8 * unit, -0.8 * unit, -0.8 * unit, 0.8 * unit])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parts": {"correct": 1.0}}, "episode 1: its reward has no part 'explore'.*expected one of correct"),
        ({"parts": {}}, "none: this reward has no parts"),
        ({"turn_rewards": [0.5]}, "the environment earned something besides"),
        ({"token_rewards": [0.0, 0.1]}, "without dense parts"),
    ],
)
def test_a_channel_that_cannot_be_read_stops_the_run(change: dict[str, Any], words: str) -> None:
    group = made([1, 0], [0.1, 0.2])
    group[1] = [changed(group[1][0], **change)]
    with pytest.raises(RecipeError, match=words):
        by_channel([group], RLSP)


@pytest.mark.parametrize("size", [2, 4, 8, 16])
def test_right_outranks_wrong_where_weights_are_far_enough_apart(size: int) -> None:
    # Gains of right and wrong lie at least 2 sqrt((G-1)/G) apart, those of exploration at most sqrt(2 (G-1)).
    random = Random(size)
    correct = [float(i < size // 2) for i in range(size)]
    worst = [0.0] + [0.5] * (size - 2) + [1.0]  # the first right answer explores least, the last wrong one most

    def gap(weight: float, explore: Sequence[float], right: Sequence[float]) -> float:
        gains = by_channel([made(right, explore)], {"correct": weight, "explore": 1.0})[0]
        return min(g for g, c in zip(gains, right, strict=True) if c) - max(
            g for g, c in zip(gains, right, strict=True) if not c
        )

    bound = sqrt(size / 2)
    assert gap(1.001 * bound, worst, correct) > 0
    assert gap(0.999 * bound, worst, correct) < 0
    for _ in range(200):
        right = [1.0, 0.0, *(float(random.random() < 0.5) for _ in range(size - 2))]
        assert gap(1.001 * bound, [random.random() ** 4 for _ in right], right) > 0
