from __future__ import annotations

import json
from dataclasses import dataclass, replace
from io import StringIO
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from llmrl.algorithms.grpo import GRPO
from llmrl.checks.verify import objective, random_rows
from llmrl.checks.verify.differences import _Constants
from llmrl.checks.verify.invariances import invariances
from llmrl.checks.verify.oracles.compare import oracle
from llmrl.checks.verify.run import Check, Form, _spread, exit_code, resolve, save, show, verify
from llmrl.errors import RecipeError

GOOD = Check("mine", "oracle", "gradient", True, "within 1", "0")
BAD = Check("mine", "differences", "policy", False, "within 1", "2")


@dataclass(frozen=True)
class Odd:
    """No algorithm."""


odd = Odd()
form = Form(name="mine", algorithm=GRPO())


def test_names_are_forms_or_places() -> None:
    assert [one.name for one in resolve(["dapo", "gspo"])] == ["dapo", "gspo"]
    assert len(resolve([])) >= 6
    (own,) = resolve(["llmrl.algorithms.grpo:GRPO"])
    assert own == Form(name="llmrl.algorithms.grpo:GRPO", algorithm=GRPO())


@pytest.mark.parametrize(
    ("name", "words"),
    [("dapoo", "did you mean 'dapo'"), ("nowhere:Thing", "cannot be imported"), ("json:dumps", "function")],
)
def test_names_that_lead_nowhere_are_refused(name: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        resolve([name])


def test_the_table_the_lines_and_the_code(tmp_path: Path) -> None:
    console = Console(width=100, record=True, file=StringIO())
    show([GOOD, BAD], 1.0, console)
    text = console.export_text()
    assert "mine, differences, policy: expected within 1; found 2" in text
    assert "0 of 1" in text
    assert "1 ok, 1 failed" in text
    assert (exit_code([GOOD]), exit_code([GOOD, BAD]), exit_code([])) == (0, 1, 1)
    save([GOOD, BAD], 1.0, tmp_path / "out.json")
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved["ok"] is False
    assert [row["found"] for row in saved["checks"]] == ["0", "2"]


def test_an_algorithm_that_raises_is_a_failure_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("column")

    monkeypatch.setattr(GRPO, "credit", broken)
    monkeypatch.setattr("llmrl.checks.verify.cases.run.cases", lambda _: [])
    checks = verify([form])
    assert [(check.part, check.ok) for check in checks] == [
        (part, False) for part in ("differences", "invariances", "learning")
    ]
    assert checks[0].found == "KeyError: 'column'"


def test_the_first_failure_is_the_last_thing_that_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("column")

    monkeypatch.setattr(GRPO, "credit", broken)
    monkeypatch.setattr("llmrl.checks.verify.cases.run.cases", lambda _: [])
    (only,) = verify([form, replace(form, name="other")], fail_fast=True)
    assert (only.form, only.part, only.ok) == ("mine", "invariances", False)
    monkeypatch.setattr("llmrl.checks.verify.cases.run.cases", lambda _: [GOOD, BAD])
    assert verify([form], fail_fast=True) == [GOOD, BAD]


def test_forms_are_looked_at_in_other_processes_where_they_can_be_sent() -> None:
    names, forms = attrgetter("name"), [form, replace(form, name="other")]
    with _spread(forms, 2) as spread:
        assert spread is not map
        assert list(spread(names, forms)) == [form.name, "other"]
    for few in ((forms, 1), (forms[:1], 2), ([form, replace(form, oracle=lambda *_: {})], 2)):
        with _spread(*few) as spread:
            assert spread is map


def test_random_steps_have_what_breaks_losses() -> None:
    rows = [row for seed in range(3) for row in random_rows.random_play(seed).rows]
    assert {row.reward != row.reward for row in rows} == {True, False}
    assert {row.truncated for row in rows} == {True, False}
    assert len({len(row.token_ids) for row in rows}) > 3
    assert any(not on and 0 < t < len(row.token_ids) - 1 for row in rows for t, on in enumerate(row.action_mask))
    assert all(row.action_mask[-1] for row in rows)


def test_constants_stay_what_they_were() -> None:
    constants, x = _Constants(), torch.tensor([2.0], requires_grad=True)
    with constants:
        assert float((x * x.detach()).detach()) == 4.0
    with constants.again():
        product = torch.tensor([3.0]) * torch.tensor([3.0]).detach()
    assert float(product) == 6.0


def test_a_form_without_oracle_has_no_such_check() -> None:
    assert oracle(form) == []


def test_a_layout_changes_nothing_but_the_layout() -> None:
    play = random_rows.random_play(0)
    rows, said = objective.annotated(GRPO(), play.rows), objective.said_of(play)
    base = objective.learned(GRPO(), rows, said)
    moved = objective.learned(GRPO(), rows, said, objective.Layout(pack=True, parts=4, junk=3.0))
    assert objective.distance(base, moved) < 1e-12
    other = objective.learned(GRPO(loss_type="grpo"), rows, said)
    assert objective.distance(base, other) > 1e-3


def test_the_invariances_of_the_default_hold() -> None:
    checks = invariances(Form(name="grpo", algorithm=GRPO(), baseline=True))
    assert len(checks) == 13
    assert all(check.ok for check in checks), [check for check in checks if not check.ok]
