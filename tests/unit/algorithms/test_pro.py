from __future__ import annotations

from math import exp, log, nan
from typing import Any

import pytest
import torch

from llmrl.algorithms.pro import PRO
from llmrl.errors import RecipeError
from llmrl.ops.rankings import listwise
from llmrl.protocols import Algorithm, Measured
from llmrl.samples import Sample
from tests.builders import row, told


def ranking(*answers: tuple[float, int], group: str = "g") -> list[Sample]:
    """Answers of a group, each with its reward and its number of tokens."""
    return [row(group=group, episode=i, reward=reward, actions=n) for i, (reward, n) in enumerate(answers)]


def test_it_is_an_algorithm_with_metrics() -> None:
    assert isinstance(PRO(), Algorithm)
    assert isinstance(PRO(), Measured)
    assert PRO().needs() == frozenset()
    assert PRO().least_generations == 2
    assert {update.keep_groups for update in PRO().updates(0)} == {True}


def test_two_answers_by_hand() -> None:
    """Rewards 1 and 0, means -0.5 and -1.5: log(1 + e^-1); slopes 1 / (1 + e) each way, over two tokens."""
    value, _, _, slope = told(PRO(nll_coef=0.0), ranking((0.0, 2), (1.0, 2)), [-0.5, -0.5], [-1.0, -2.0])
    assert value == pytest.approx(log(1 + exp(-1)))
    push = 1 / (1 + exp(1)) / 2
    assert slope.tolist() == pytest.approx([0.0, -push, -push, 0.0, push, push]), "best first, whatever their order"


def test_the_best_is_imitated_by_the_square_of_those_below_it() -> None:
    rows, lines = ranking((2.0, 2), (1.0, 1), (0.0, 1)), ([-0.5, -1.5], [-1.0], [-1.0])
    with_it, without = told(PRO(nll_coef=0.1), rows, *lines)[0], told(PRO(nll_coef=0.0), rows, *lines)[0]
    assert with_it - without == pytest.approx(0.1 * 4 * 2.0)


def test_equal_neighbours_are_not_told_apart() -> None:
    """Rewards 1, 1, 0: the first two have temperature 0 against each other, and each 1 against the last."""
    scores = torch.tensor([[-1.0, -2.0, -3.0]], dtype=torch.float64)
    terms = listwise(scores, torch.tensor([[1.0, 1.0, 0.0]]).double(), torch.ones(1, 3, dtype=torch.bool))
    assert terms[0].tolist() == pytest.approx([log(exp(-1) + 1 + exp(-3)) + 1, log(exp(-2) + exp(-3)) + 2, 0.0])


def test_large_gaps_overflow_nowhere() -> None:
    scores = torch.tensor([[-80.0, -1.0, -90.0]], dtype=torch.float32, requires_grad=True)
    terms = listwise(scores, torch.tensor([[1e4, 10.0, -1e4]]), torch.ones(1, 3, dtype=torch.bool))
    terms.sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert bool(torch.isfinite(terms).all())
    assert bool(torch.isfinite(scores.grad).all())


def test_rankings_of_several_lengths_share_a_batch_and_weigh_alike() -> None:
    short, long = ranking((1.0, 1), (0.0, 1), group="a"), ranking((3.0, 4), (2.0, 3), (0.5, 1), (0.0, 2), group="b")
    lines: dict[str, list[list[float]]] = {
        "a": [[-0.2], [-0.9]],
        "b": [[-0.1, -0.2, -0.3, -0.4], [-1.0, -2.0, -0.5], [-0.7], [-0.4, -0.6]],
    }
    alone = [told(PRO(), rows, *lines[rows[0].group])[0] for rows in (short, long)]
    assert told(PRO(), [*long, *short], *lines["b"], *lines["a"])[0] == pytest.approx(sum(alone) / 2, abs=1e-12)


def test_an_answer_in_several_samples_is_one() -> None:
    whole = ranking((0.0, 1), (1.0, 3))
    halves = [whole[0], *(row(episode=1, reward=1.0, actions=n) for n in (1, 2))]
    value = told(PRO(), whole, [-0.5, -1.5, -2.5], [-0.7])[0]
    assert told(PRO(), halves, [-0.5], [-1.5, -2.5], [-0.7])[0] == pytest.approx(value, abs=1e-12)


def test_what_is_no_ranking_is_left_out_and_single_answers_are_refused() -> None:
    unjudged = [*ranking((1.0, 2), (nan, 2), (0.0, 2)), *ranking((0.5, 2), (0.5, 2), group="equal")]
    credited = PRO().credit(unjudged)
    assert [(one.episode, one.numbers["rank"]) for one in credited] == [(0, 0.0), (2, 1.0)]
    assert sum(float(one.weights.sum()) for one in credited) == pytest.approx(1.0)
    assert PRO().metrics(credited) == {"pro/rankings": 1.0, "pro/answers": 2.0}
    with pytest.raises(RecipeError, match="none of the step's 2 problems has two answers"):
        PRO().credit([*ranking((1.0, 2), group="a"), *ranking((0.0, 2), group="b")])


def test_metrics_are_means_over_rankings() -> None:
    """In one ranking one of two neighbours is right, of the other the only pair; equal rewards are no pair."""
    rows = [*ranking((2.0, 1), (1.0, 1), (0.0, 1)), *ranking((1.0, 1), (0.0, 1), (0.0, 1), group="h")]
    _, batch, loss, _ = told(PRO(), rows, [-1.0], [-2.0], [-0.5], [-0.1], [-0.3], [-0.2])
    mean = {name: float((numbers * batch.weights).sum()) for name, numbers in loss.means.items()}
    assert mean["rewards/accuracies"] == pytest.approx((0.5 + 1.0) / 2)
    assert mean["logps/best"] == pytest.approx(-0.55)


@pytest.mark.parametrize("options", [{"nll_coef": -1.0}, {"minibatches": 0}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected at least 0|at least 1"):
        PRO(**options)
