from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import StringIO
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from rich.console import Console

from llmrl.algorithms.grpo import GRPO
from llmrl.algorithms.ppo import PPO
from llmrl.batch import Batch
from llmrl.checks.verify import objective, random_rows
from llmrl.checks.verify.differences import _Constants, differences
from llmrl.checks.verify.invariances import invariances
from llmrl.checks.verify.oracles.compare import oracle
from llmrl.checks.verify.run import Check, Form, _spread, exit_code, resolve, save, show, verify
from llmrl.errors import RecipeError
from llmrl.protocols import Forward, Loss
from llmrl.samples import Sample

GOOD = Check("mine", "oracle", "gradient", True, "within 1", "0")
BAD = Check("mine", "differences", "policy", False, "within 1", "2")


@dataclass(frozen=True)
class Odd:
    """No algorithm."""


@dataclass(frozen=True, kw_only=True)
class WithoutMinimum(PPO):
    """PPO whose ratio is clipped wherever it is."""

    minibatches: int = 2

    def loss(self, new: Forward, batch: Batch) -> Loss:
        held = (new.logprobs - batch.old_logprobs).exp().clamp(1 - self.epsilon, 1 + self.high) * batch.advantages
        terms, _ = self.correction.apply(-held, batch.old_logprobs, batch)
        return replace(super().loss(new, batch), terms=terms)


@dataclass(frozen=True, kw_only=True)
class NamesItsOracle(WithoutMinimum):
    oracle: ClassVar[str] = "ppo"


@dataclass(frozen=True, kw_only=True)
class Bare(GRPO):
    """Loss that is not a number."""

    def loss(self, new: Forward, batch: Batch) -> Loss:
        right = super().loss(new, batch)
        return replace(right, terms=right.terms * float("nan"))


@dataclass(frozen=True, kw_only=True)
class FirstSampleAlone(GRPO):
    """Rewards of single tokens count in the first sample of an episode alone."""

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        seen: set[tuple[str, int]] = set()
        rows = []
        for row in samples:
            again = (row.group, row.episode) in seen
            seen.add((row.group, row.episode))
            rows.append(row.with_columns(token_rewards=None) if again else row)
        return super().credit(rows)


HERE = "tests.unit.checks.verify.test_run"
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
    assert {bool(row.action_mask[-1]) for row in rows} == {True, False}
    assert max(row.actions for row in rows) > 8
    assert {row.status for row in rows} == {"done", "max_tokens", "max_turns"}


def test_groups_of_random_steps_differ_and_lie_apart() -> None:
    rows = random_rows.random_play(0).rows
    groups = [row.group for row in rows]
    assert len({groups.count(group) for group in groups}) > 1
    assert groups != sorted(groups)
    near, small = (
        [row.reward for row in rows if row.group == group and row.reward == row.reward] for group in ("g0", "g2")
    )
    assert 0 < max(near) - min(near) < 1e-6
    assert 0 < sorted(set(small))[-1] - sorted(set(small))[-2] < 1e-2


def test_ratios_of_random_steps_go_beyond_clips_and_caps_on_both_sides() -> None:
    rows = [row for seed in range(8) for row in random_rows.random_play(seed).rows]
    apart = np.concatenate([(row.old_logprobs - row.sampled_logprobs)[row.action_mask] for row in rows])
    assert (np.exp(apart) > 3).sum() > 10
    assert (np.exp(apart) < 0.4).sum() > 10


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
    assert len(checks) == 13, [check.name for check in checks]
    assert all(check.ok for check in checks), [check for check in checks if not check.ok]


# An algorithm of one's own


def test_a_wrong_equation_shows_by_an_oracle_alone() -> None:
    (alone,) = resolve([f"{HERE}:WithoutMinimum"])
    assert oracle(alone) == []
    assert all(check.ok for check in (*differences(alone), *invariances(alone)))
    for form in (*resolve([f"{HERE}:WithoutMinimum"], "ppo"), *resolve([f"{HERE}:NamesItsOracle"])):
        assert {check.name: check.ok for check in oracle(form)} == {
            "critic's gradient": True,
            "critic's objective": True,
            "policy's gradient": False,
            "policy's objective": False,
        }
    (right,) = resolve(["llmrl.algorithms.ppo:PPO"], "ppo")
    assert all(check.ok for check in oracle(right))


@pytest.mark.parametrize(
    ("names", "oracle", "words"),
    [
        (
            [f"{HERE}:WithoutMinimum"],
            "pppo",
            "unknown oracle 'pppo'; did you mean 'ppo'.*known: a_lol, .*webrl, or package",
        ),
        (["grpo"], "ppo", "grpo ships and has its own"),
        ([], "ppo", "of which algorithm"),
        ([f"{HERE}:WithoutMinimum"], "nowhere:oracle", "cannot be imported"),
    ],
)
def test_oracles_that_are_none(names: list[str], oracle: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        resolve(names, oracle)


def test_the_summary_says_which_equation_was_not_compared() -> None:
    console = Console(width=100, record=True, file=StringIO())
    show([GOOD], 1.0, console, ["mine"])
    text = console.export_text()
    assert "mine: the equation itself was not compared" in text
    assert "--oracle NAME" in text
    assert "reinforce_pp" in text


def test_that_equal_rewards_teach_nothing_is_seen_from_the_credit() -> None:
    asked = "equal rewards teach nothing"
    assert asked in {check.name for check in invariances(Form(name="mine", algorithm=GRPO()))}
    assert asked not in {check.name for check in invariances(Form(name="mine", algorithm=PPO()))}


def test_what_is_not_a_number_is_no_small_difference() -> None:
    (named,) = resolve([f"{HERE}:Bare"], "grpo")
    assert not any(check.ok for check in (*oracle(named), *differences(named)))


def test_an_episode_in_several_samples_is_one() -> None:
    for algorithm, right in ((GRPO(), True), (FirstSampleAlone(), False)):
        checks = invariances(Form(name="mine", algorithm=algorithm, dense=True, splits=True))
        (check,) = (check for check in checks if check.name == "an episode in several samples is one episode")
        assert check.ok == right
