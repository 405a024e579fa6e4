"""SWE-bench's own files as problems."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrl.data.swe_bench import SweBench
from llmrl.swe.instance import Instance


@pytest.mark.parametrize(("subset", "count", "tested"), [("lite", 300, 300), ("verified", 500, 136)])
def test_every_row_is_an_instance(subset: str, count: int, tested: int, shared_data: Path) -> None:
    if not (shared_data / f"swebench/{subset}_test.jsonl.gz").is_file():
        pytest.skip("SWE-bench is not there")
    problems = list(SweBench(subset=subset, path=str(shared_data / f"swebench/{subset}_test.jsonl.gz")).problems())  # type: ignore[arg-type]
    assert len(problems) == count
    instances = [Instance.of(problem) for problem in problems]
    assert sum(bool(instance.fail_to_pass) for instance in instances) == tested
    assert all(instance.patch and instance.issue and instance.base_commit for instance in instances)
    assert instances[0].id == problems[0].id
