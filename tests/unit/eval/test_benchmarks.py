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
