"""The reward `code` on real problems: every reference solution passes, and labelled samples get their labels."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llmrl.rewards.code import Code
from llmrl.types import Problem

REWARD = Code(timeout_s=40.0)
pytestmark = pytest.mark.slow


def load(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def verdicts(rows: list[tuple[str, dict[str, Any], str]]) -> dict[str, bool]:
    """By id: whether the answer is correct."""

    def one(row: tuple[str, dict[str, Any], str]) -> bool:
        return REWARD(Problem(id=row[0], messages=(), info=row[1]), row[2]).value == 1.0

    with ThreadPoolExecutor(2) as pool:
        return dict(zip([row[0] for row in rows], pool.map(one, rows), strict=True))


@pytest.mark.timeout(1800)
def test_humaneval_references_pass(shared_data: Path) -> None:
    rows = load(shared_data / "humaneval/HumanEval.jsonl")
    found = verdicts([(row["task_id"], row, row["canonical_solution"]) for row in rows])
    assert len(found) == 164
    assert [name for name, right in found.items() if not right] == []


@pytest.mark.timeout(1800)
def test_mbpp_references_pass(shared_data: Path) -> None:
    rows = load(shared_data / "mbpp/mbpp.jsonl")
    found = verdicts([(str(row["task_id"]), row, f"```python\n{row['code']}\n```") for row in rows])
    assert len(found) == 974
    assert [name for name, right in found.items() if not right] == []


@pytest.mark.timeout(1800)
def test_labelled_samples_get_their_labels(shared_data: Path) -> None:
    problems = {row["task_id"]: row for row in load(shared_data / "humaneval/HumanEval.jsonl")}
    rows = load(shared_data / "humaneval/codegen16b_samples_dev.jsonl")
    found = verdicts([(row["id"], problems[row["task_id"]], row["completion"]) for row in rows])
    assert [row["id"] for row in rows if found[row["id"]] != row["passed"]] == []
