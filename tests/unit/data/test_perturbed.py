"""Problems with texts around them, whose answers stay."""

from __future__ import annotations

import pytest

from llmrl import plugins
from llmrl.data.perturbed import TEMPLATES
from llmrl.errors import RecipeError
from llmrl.types import Problem
from tests.builders import some

SUMS = {"name": "arithmetic", "high": 9, "count": 20}


def read(**options: object) -> list[Problem]:
    return list(plugins.build("data", {"name": "perturbed", "of": SUMS, **options}).problems())


def test_each_problem_comes_once_in_each_template_with_its_answer() -> None:
    problems, plain = read(), list(plugins.build("data", SUMS).problems())
    assert [problem.id for problem in problems[:4]] == [f"{plain[0].id}#{name}" for name in TEMPLATES]
    assert len({problem.id for problem in problems}) == 80
    for i, problem in enumerate(problems):
        before = plain[i // 4]
        assert problem.answer == before.answer
        assert problem.info == {**before.info, "perturbation": [*TEMPLATES][i % 4]}
        assert str(before.messages[-1]["content"]) in str(problem.messages[-1]["content"])
    assert [one.messages for one in problems[::4]] == [one.messages for one in plain]
    assert read() == problems


def test_a_number_is_never_the_answer() -> None:
    template = {"claim": "{number}|{prompt}"}
    for problem in some(read(templates=template)):
        number, _, _ = str(problem.messages[-1]["content"]).partition("|")
        assert 2 <= int(number) <= 99
        assert number != problem.answer


def test_a_prompt_is_no_template() -> None:
    """Braces in a problem, such as those of LaTeX, stay as they are."""
    sums = {**SUMS, "template": "{{number}} {a}{op}{b}="}
    told = read(of=sums, templates={"twice": "{prompt} {prompt}"})[0].messages[-1]["content"]
    assert str(told).count("{number}") == 2


@pytest.mark.parametrize("templates", [{}, {"none": "{prompt}", "bad": "nothing"}])
def test_a_template_without_its_prompt_is_refused(templates: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match=r"expected texts with \{prompt\} in each"):
        read(templates=templates)
