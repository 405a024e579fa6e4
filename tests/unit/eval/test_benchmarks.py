"""Every benchmark that ships can be built, part by part."""

from __future__ import annotations

import pytest

from llmrl import plugins
from llmrl.protocols import Benchmark, Dataset


@pytest.mark.parametrize("name", plugins.names("benchmark"))
def test_a_benchmark_names_parts_that_exist(name: str) -> None:
    benchmark = plugins.build("benchmark", name)
    assert isinstance(benchmark, Benchmark)
    assert isinstance(plugins.build("data", benchmark.data), Dataset)
    assert plugins.build("reward", benchmark.reward) is not None
    assert benchmark.about
    assert benchmark.samples == 1 or benchmark.sampling.temperature > 0


def test_generated_problems_of_a_benchmark_are_none_of_training() -> None:
    benchmark = plugins.build("benchmark", "arithmetic")
    asked, trained = (
        {problem.id for problem in plugins.build("data", benchmark.data | options).problems()}
        for options in ({}, {"split": "train", "count": None})
    )
    assert len(asked) == 500
    assert asked.isdisjoint(trained)


@pytest.mark.parametrize("name", ["aime24", "aime25", "amc23"])
def test_contests_of_few_problems_are_asked_often(name: str) -> None:
    """A problem of 30 is worth 3 points: one answer each would move by more than models differ."""
    assert plugins.build("benchmark", name).samples == 16
