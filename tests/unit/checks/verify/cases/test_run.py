from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmrl.checks.verify.cases import run as cases
from llmrl.checks.verify.cases.run import SUBJECTS, close, subject

EVERY = [(name, case["case"]) for name in SUBJECTS for case in subject(name)]


def test_they_are_as_many_as_their_names() -> None:
    assert len({case for _, case in EVERY}) == len(EVERY) == 151
    page = Path(__file__).parents[5] / "docs" / "verify.md"
    assert f"{len(EVERY)} cases" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_case_is_answered_as_wanted(name: str) -> None:
    failed = [check for case in subject(name) for check in cases._checked(name, case) if not check.ok]
    assert not failed


@pytest.mark.parametrize(
    ("want", "found"),
    [
        (1.0, 1.0 + 2e-9),
        ([1.0, 2.0], [1.0]),
        ([1.0], 1.0),
        (True, 1),
        (1, True),
        (None, 0),
        (0.0, None),
        (0.0, float("nan")),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}),
        ("x", "y"),
    ],
)
def test_what_is_not_as_wanted(want: Any, found: Any) -> None:
    assert not close(want, found, 1e-9)


@pytest.mark.parametrize("value", [1.0, [1.0, [2.0]], True, None, {"a": [1.0]}, "x"])
def test_what_is_as_wanted(value: Any) -> None:
    assert close(value, value, 0.0)


def answered(monkeypatch: pytest.MonkeyPatch, case: dict[str, Any], answer: Any) -> str:
    """The failure that the check of a made-up case reports; "" where it passes."""
    monkeypatch.setattr(cases, "_answering", lambda *_: (answer, False))
    (check,) = cases._checked("subject", {"case": "made up", "given": {}, **case})
    assert check.ok == (not check.expected.startswith(("x", "a function")))
    return "" if check.ok else f"{check.expected}; {check.found}"


def test_a_case_fails_by_a_wrong_number_a_missing_one_and_a_peers_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answered(monkeypatch, {"want": {"x": 1.0}}, lambda _: {"x": 1.0}) == ""
    assert answered(monkeypatch, {"want": {"x": 1.0}}, lambda _: {"x": 2.0}) == "x 1.0; 2.0"
    assert answered(monkeypatch, {"want": {"x": 1.0}}, lambda _: {"y": 1.0}) == "x 1.0; no such result"
    bug = {"want": {}, "never": {"x": [2.0]}}
    assert answered(monkeypatch, bug, lambda _: {"x": 2.0}) == "x, anything but 2.0; just that"
    assert answered(monkeypatch, bug, lambda _: {"x": 1.0}) == ""
    assert "ZeroDivisionError" in answered(monkeypatch, {"want": {}}, lambda _: 1 / 0)


def test_only_the_subjects_of_a_form_are_looked_at() -> None:
    assert {check.form for check in cases.cases(["nlpo"])} == {
        "cases: ppo", "cases: group", "cases: mismatch", "cases: critics", "cases: nlpo",
    }  # fmt: skip
    assert cases.cases(["mypkg.mine:Mine"]) == []
