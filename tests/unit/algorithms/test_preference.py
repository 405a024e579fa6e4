from __future__ import annotations

from math import log, nan
from typing import Any

import pytest
import torch

from llmrl.algorithms.preference import LOSSES, Preference
from llmrl.batch import collate
from llmrl.errors import ColumnError, RecipeError
from llmrl.protocols import Algorithm, Forward, Measured
from llmrl.samples import Sample
from tests.builders import row, told

REF = (0.0, -1.0, -1.0)


def pair(best: int = 2, worst: int = 2, **facts: Any) -> list[Sample]:
    """A worse answer, and a better one behind it."""
    return [
        row(episode=0, reward=0.0, actions=worst, ref_logprobs=[0.0] + [-1.0] * worst, **facts),
        row(episode=1, reward=1.0, actions=best, ref_logprobs=[0.0] + [-1.0] * best, **facts),
    ]


def test_it_is_an_algorithm_with_metrics() -> None:
    assert isinstance(Preference(), Algorithm)
    assert isinstance(Preference(), Measured)
    assert Preference().needs() == {"ref_logprobs"}
    assert Preference().least_generations == 2
    for name in ("simpo", "orpo", "cpl"):
        assert Preference(loss_type=name).needs() == frozenset()  # type: ignore[arg-type]
    assert Preference(loss_type="cpl", reference_free=False).needs() == {"ref_logprobs"}
    assert {update.keep_groups for update in Preference().updates(0)} == {True}


def test_at_the_reference_the_loss_is_the_logarithm_of_two() -> None:
    value, _, loss, slope = told(Preference(beta=0.3), pair(), [-1.0, -1.0], [-1.0, -1.0])
    assert value == pytest.approx(log(2))
    assert slope.tolist() == pytest.approx([0.0, -0.15, -0.15, 0.0, 0.15, 0.15]), "half of beta, chosen first"
    assert loss.means["rewards/accuracies"].tolist() == [[0.0] * 6]


def test_credit_takes_the_best_and_the_worst_of_a_group() -> None:
    rows = [row(episode=i, reward=reward, ref_logprobs=REF) for i, reward in enumerate((0.5, 0.0, 1.0, nan, 0.0, 1.0))]
    chosen, rejected = Preference().credit(rows)
    assert (chosen.episode, rejected.episode) == (2, 1), "the first of equal ones"
    assert chosen.advantages.tolist() == [0.0, 1.0, 1.0]
    assert rejected.advantages.tolist() == [0.0, -1.0, -1.0]
    assert chosen.returns.tolist() == [0.0, 1.0, 1.0], "the gap of their rewards"
    assert chosen.weights.tolist() == rejected.weights.tolist() == [0.0, 0.25, 0.25]
    assert Preference().metrics([chosen, rejected]) == {"pairs": 1.0}


def test_equal_rewards_are_no_pair() -> None:
    assert Preference().credit([row(episode=i, reward=0.5) for i in (0, 1)]) == []
    assert Preference().credit([row(episode=0, reward=nan), row(episode=1, reward=1.0)]) == []
    assert Preference().credit([]) == []
    assert Preference().metrics([]) == {"pairs": 0.0}


def test_a_step_of_single_answers_stops_and_is_not_passed_over() -> None:
    with pytest.raises(RecipeError, match="none of the step's 2 problems has two answers"):
        Preference().credit([row(group="a", reward=1.0), row(group="b", reward=0.0)])
    rows = [row(group="a", reward=1.0), *pair(group="b")]
    assert {one.group for one in Preference().credit(rows)} == {"b"}, "where another problem has two, it is passed over"


def test_pairs_weigh_the_same_however_long_they_are() -> None:
    rows = [*pair(1, 1, group="short"), *pair(6, 2, group="long")]
    credited = Preference().credit(rows)
    weight = {group: sum(float(r.weights.sum()) for r in credited if r.group == group) for group in ("short", "long")}
    assert weight == {"short": pytest.approx(0.5), "long": pytest.approx(0.5)}


def test_an_answer_in_several_samples_is_one_side() -> None:
    # The better answer in one sample of three actions, or in two of one and two: its sum is the same.
    worse, better = pair(3, 1)
    halves = [row(episode=1, reward=1.0, actions=n, ref_logprobs=[0.0] + [-1.0] * n) for n in (1, 2)]
    for name in LOSSES:
        algorithm = Preference(loss_type=name, reference_free=None)
        whole = told(algorithm, [worse, better], [-0.5, -1.5, -2.5], [-0.7])[0]
        parts = told(algorithm, [worse, *halves], [-0.5], [-1.5, -2.5], [-0.7])[0]
        assert whole == pytest.approx(parts, abs=1e-12), name


def test_losses_worked_by_hand() -> None:
    # Sums less the reference's: chosen -1 + 2 = 1, rejected -3 + 2 = -1; means -0.5 and -1.5 less -1: 0.5 and -0.5.
    lines = [-0.5, -0.5], [-1.5, -1.5]
    plain = {name: told(Preference(loss_type=name), pair(), *lines)[0] for name in ("sigmoid", "hinge", "ipo")}  # type: ignore[arg-type]
    assert plain["sigmoid"] == pytest.approx(0.5981388693815918)  # softplus of -0.1 * 2
    assert plain["hinge"] == pytest.approx(0.8)  # 1 - 0.2
    assert plain["ipo"] == pytest.approx(16.0)  # (1 - 1 / 0.2) squared
    smooth = told(Preference(label_smoothing=0.25), pair(), *lines)[0]
    assert smooth == pytest.approx(0.75 * 0.5981388693815918 + 0.25 * 0.7981388693815918)
    robust = told(Preference(loss_type="robust", label_smoothing=0.25), pair(), *lines)[0]
    assert robust == pytest.approx((0.75 * 0.5981388693815918 - 0.25 * 0.7981388693815918) / 0.5)
    simpo = told(Preference(loss_type="simpo", beta=2.0), pair(), *lines)[0]
    assert simpo == pytest.approx(0.20141327798275246)  # softplus of -(2 * 1 - 0.5)
    # Odds exp(-0.5) / (1 - exp(-0.5)) = 1.5415 and exp(-1.5) / (1 - exp(-1.5)) = 0.28722; their ratio 5.3670
    orpo = told(Preference(loss_type="orpo"), pair(), *lines)
    assert orpo[0] == pytest.approx(0.5 + 0.1 * log(1 + 1 / 5.366981), abs=1e-6)


def test_metrics_of_pairs_are_means_over_pairs() -> None:
    rows = [*pair(1, 1, group="short"), *pair(6, 2, group="long")]
    _, batch, loss, _ = told(Preference(beta=1.0), rows, [-0.5], [-1.0], [-1.0] * 6, [-0.5] * 2)
    mean = {name: float((numbers * batch.weights).sum()) for name, numbers in loss.means.items()}
    # Log-ratios of the better: 0.5 and 0; of the worse: 0 and 1.
    assert mean["rewards/chosen"] == pytest.approx(0.25)
    assert mean["rewards/rejected"] == pytest.approx(0.5)
    assert mean["rewards/margins"] == pytest.approx(-0.25)
    assert mean["rewards/accuracies"] == pytest.approx(0.5)
    assert mean["logps/chosen"] == pytest.approx((-0.5 - 6.0) / 2)


def test_a_rank_without_work_has_finite_terms() -> None:
    from llmrl.train.learner import _blank

    for name in LOSSES:
        algorithm = Preference(loss_type=name)
        batch = collate([_blank(algorithm.credit(pair())[0])], pack=True)
        new = torch.zeros_like(batch.sampled_logprobs, requires_grad=True)
        loss = algorithm.loss(Forward(logprobs=new), batch)
        (loss.terms * batch.weights).sum().backward()  # type: ignore[no-untyped-call]
        assert new.grad is not None
        assert torch.isfinite(loss.terms).all(), name
        assert new.grad.abs().max() == 0.0, name


def test_without_the_reference_the_error_says_who_asks() -> None:
    rows = [r.with_columns(ref_logprobs=None) for r in pair()]
    with pytest.raises(ColumnError, match=r"preference: Preference.loss reads the column ref_logprobs"):
        told(Preference(), rows, [-1.0, -1.0], [-1.0, -1.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta 0.0: expected above 0"),
        ({"beta": nan}, "beta nan"),
        ({"label_smoothing": 0.5, "loss_type": "robust"}, "label_smoothing 0.5: expected at least 0 and below 0.5"),
        ({"label_smoothing": 0.1, "loss_type": "ipo"}, "ipo has none"),
        ({"loss_type": "simpo", "reference_free": False}, "simpo has no reference"),
        ({"loss_type": "ipo", "advantage_margin": 1.0}, "expected loss_type sigmoid, robust, hinge"),
        ({"loss_type": "cpl", "conservatism": 0.0}, "conservatism 0.0: expected above 0"),
        ({"gamma": 0.9}, "only cpl discounts turns"),
        ({"minibatches": 0}, "at least 1"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preference(**options)
