"""Losses over pairs: the example of docs/extending.md against numbers worked by hand, in every layout."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, expm1, log
from pathlib import Path
from typing import Any

import pytest
import torch

from llmrl.batch import collate
from llmrl.checks.verify.differences import differences
from llmrl.checks.verify.form import Form
from llmrl.checks.verify.invariances import invariances
from llmrl.errors import ColumnError
from llmrl.ops.pairs import log_odds, over_tokens, pairs_of, side_means, side_sums, weigh_pairs
from llmrl.protocols import Forward
from llmrl.samples import Sample
from tests.builders import row

PAGE = Path(__file__).parents[3] / "docs" / "extending.md"


@pytest.fixture
def dpo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    section = PAGE.read_text(encoding="utf-8").split("## A loss over pairs")[1]
    (tmp_path / "preferring.py").write_text(re.findall(r"```python\n(.*?)```", section, re.S)[0], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("preferring", None)
    return importlib.import_module("preferring").Preferring()


def answer(group: str, role: Any, reference: Sequence[float], **facts: Any) -> Sample:
    columns = {"ref_logprobs": [0.0, *reference]}
    return row(
        group, int(role == "rejected"), float(role == "chosen"), actions=len(reference), role=role, **columns, **facts
    )


PAIRS = [
    answer("a", "chosen", [-12.0, -0.4]),
    answer("a", "rejected", [-10.0, -2.0, -1.0]),
    answer("b", "chosen", [-7.2]),
    answer("b", "rejected", [-6.0, -0.5]),
]
POLICY = {("a", 0): [-11.0, -1.0], ("a", 1): [-13.0, -0.5, 0.0], ("b", 0): [-7.0], ("b", 1): [-5.0, -1.0]}
"""Sums: -12 and -13.5, against -12.4 and -13 of the reference; -7 and -6, against -7.2 and -6.5."""


def value(algorithm: Any, rows: Sequence[Sample], pack: bool = False) -> float:
    """Objective of some of the rows, whose weights are those of the whole step."""
    batch = collate(rows, pack=pack, dtype=torch.float64)
    flat = [[0.0, *POLICY[one.group, one.episode]] for one in rows]
    logprobs = torch.zeros(batch.token_ids.shape, dtype=torch.float64)
    logprobs[batch.sample_ids >= 0] = torch.tensor([number for line in flat for number in line], dtype=torch.float64)
    loss = algorithm.loss(Forward(logprobs=logprobs), batch)
    return float((loss.terms * batch.weights).sum())


def test_the_loss_of_two_pairs_is_the_one_worked_by_hand(dpo: Any) -> None:
    """Gaps 0.4 + 0.5 = 0.9 and 0.2 - 0.5 = -0.3; times 0.1; the mean of log(1 + exp(-z)) is 0.67870950768."""
    expected = (log(1 + exp(-0.09)) + log(1 + exp(0.03))) / 2
    assert expected == pytest.approx(0.6787095076835292, abs=1e-12)
    rows = dpo.credit(PAIRS)
    for pack in (False, True):
        assert value(dpo, rows, pack) == pytest.approx(expected, abs=1e-9)
        assert value(dpo, rows[::-1], pack) == pytest.approx(expected, abs=1e-9)
        apart = value(dpo, rows[:2], pack) + value(dpo, rows[2:], pack)
        assert apart == pytest.approx(expected, abs=1e-9), "a pair a micro-batch"


def test_a_pair_without_a_partner_teaches_nothing(dpo: Any) -> None:
    assert [[side[0].role for side in pair] for pair in pairs_of(PAIRS[:3])] == [["chosen", "rejected"]]
    assert value(dpo, dpo.credit(PAIRS[:3])) == pytest.approx(log(1 + exp(-0.09)), abs=1e-9)
    lone = collate([row.assign(weights=0.0, advantages=1.0) for row in PAIRS[:1]], pack=False)
    logprobs = torch.zeros(lone.token_ids.shape, requires_grad=True)
    terms = dpo.loss(Forward(logprobs=logprobs), lone).terms * lone.weights
    terms.sum().backward()
    assert not terms.any()
    assert logprobs.grad is not None


def test_sums_and_means_of_sides() -> None:
    batch = collate(weigh_pairs(pairs_of(PAIRS)), pack=True)
    numbers = torch.arange(batch.token_ids.numel(), dtype=torch.float32)[None]
    # Tokens 1, 2 | 4, 5, 6 | 8 | 10, 11 are the actions; 0, 3, 7, 9 the prompts.
    assert side_sums(numbers, batch).tolist() == [[3.0, 15.0], [8.0, 21.0], [0.0, 0.0], [0.0, 0.0]]
    assert side_means(numbers, batch)[:2].tolist() == [[1.5, 5.0], [8.0, 10.5]]
    assert over_tokens(torch.tensor([0.25, 0.5, 9.0, 9.0]), batch).tolist() == [[0.25] * 7 + [0.5] * 5]


def test_odds_near_both_ends() -> None:
    assert log_odds(torch.tensor([-1e-4, -0.5, -30.0], dtype=torch.float64)).tolist() == pytest.approx(
        [-1e-4 - log(-expm1(-1e-4)), -0.5 - log(1 - exp(-0.5)), -30.0], abs=1e-12
    )


def test_a_batch_has_the_numbers_that_every_sample_has() -> None:
    margins = [one.with_numbers(margin=float(i // 2)) for i, one in enumerate(PAIRS)]
    batch = collate([*margins[:3], margins[3].with_numbers(other=1.0)], pack=True)
    assert batch.number("margin").tolist() == [0.0, 0.0, 1.0, 1.0]
    with pytest.raises(
        ColumnError, match=r"the number other of each sample, which not every sample has; known: margin"
    ):
        batch.number("other")


def test_a_pair_weighs_one_over_their_number() -> None:
    rows = weigh_pairs(pairs_of(PAIRS))
    assert [float(one.weights.sum()) for one in rows] == pytest.approx([0.2, 0.3, 1 / 6, 1 / 3]), "by tokens"
    assert [float(one.advantages.max() + one.advantages.min()) for one in rows] == [1.0, -1.0, 1.0, -1.0]


def test_verify_takes_pairs(dpo: Any) -> None:
    """Layouts, order, masks and differences, of random pairs; an error in the loss shows."""
    form = Form(name="dpo", algorithm=dpo, pairs=True, only_credit=False)
    checks = [*invariances(form), *differences(form)]
    failed = [check for check in checks if not check.ok]
    assert not failed, failed
    assert len(checks) > 10


@dataclass(frozen=True)
class Split:
    """An algorithm whose pairs may be parted."""

    whole: Any

    def needs(self) -> Any:
        return self.whole.needs()

    def credit(self, samples: Sequence[Sample]) -> Any:
        return self.whole.credit(samples)

    def updates(self, step: int) -> Any:
        return [replace(update, keep_groups=False) for update in self.whole.updates(step)]


def test_what_a_split_pair_would_do_is_seen(dpo: Any) -> None:
    form = Form(name="split", algorithm=Split(dpo), pairs=True, only_credit=False)
    failed = {check.name for check in invariances(form) if not check.ok}
    assert "any split into micro-batches" in failed
