"""docs/verify.md names tests that exist, and forms for every algorithm that ships."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmrl import plugins
from llmrl.checks.verify.cases.run import SUBJECTS
from llmrl.checks.verify.run import resolve

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "verify.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def test_fifteen_errors_of_peers_have_a_test() -> None:
    errors = re.findall(r"^\| .+ \| (`tests/.+`) \|$", PAGE, re.MULTILINE)
    assert len(errors) == 15
    assert len(NAMED) == len(set(NAMED)) == sum(tests.count("::") for tests in errors)


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_it_exists(path: str, name: str) -> None:
    assert f"\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("plugin", plugins.names("algorithm"))
def test_every_algorithm_that_ships_is_verified(plugin: str) -> None:
    assert any(isinstance(form.algorithm, plugins.find("algorithm", plugin)) and form.oracle for form in resolve([]))


def test_the_subjects_of_cases_name_forms() -> None:
    assert {name for forms in SUBJECTS.values() for name in forms} <= {form.name for form in resolve([])}
