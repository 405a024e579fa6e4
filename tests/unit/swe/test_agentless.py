"""Agentless-Mini: files found, repairs read, one chosen; each part by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from llmrl.swe.agentless import localise, repair, reproduce, rerank

CASES = Path(__file__).parents[4] / "shared" / "specs" / "agents_cases.json"
PATHS = ["pkg/a.py", "pkg/sub/b.py", "pkg/tests/test_a.py", "setup.py", "test_x.py", "README.md", "conftest.py"]


def test_candidates_are_python_without_tests() -> None:
    assert localise.candidates(PATHS) == ["pkg/a.py", "pkg/sub/b.py", "setup.py"]
    assert "pkg/tests/test_a.py" in localise.candidates(PATHS, "pytest-dev/pytest")


def test_the_tree_is_indented() -> None:
    assert localise.tree_text(localise.candidates(PATHS)) == "pkg/\n  sub/\n    b.py\n  a.py\nsetup.py"
    shuffled = localise.tree_text(localise.candidates(PATHS), 4, random.Random(1))
    assert sorted(line.strip() for line in shuffled.splitlines()) == sorted(
        ["pkg/", "sub/", "b.py", "a.py", "setup.py"]
    )
    assert "        b.py" in shuffled


def test_samples_differ_and_repeat() -> None:
    paths = localise.candidates(PATHS)
    first, second = (localise.messages("issue", paths, sample)[0]["content"] for sample in (0, 1))
    assert first != second
    assert second == localise.messages("issue", paths, 1)[0]["content"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("So:\n```\npkg/a.py\nsetup.py\n```", ["pkg/a.py", "setup.py"]),
        ("```\nsetup.py\n```\nno:\n```\n1. `pkg/a.py`\n- pkg/none.py\npkg/a.py\n```", ["pkg/a.py"]),
        ("<think>```\nsetup.py\n```</think>pkg/sub/b.py", ["pkg/sub/b.py"]),
        ("a.py", []),
        ("", []),
    ],
)
def test_named_files(text: str, found: list[str]) -> None:
    assert localise.named_files(text, PATHS) == found


def test_samples_cycle_over_the_distinct_sets() -> None:
    assert repair.file_sets([["a"], [], ["b", "a"], ["a"]], 3) == [["a"], ["b", "a"], ["a"]]
    assert repair.file_sets([[]], 3) == []


def test_files_that_do_not_fit_are_left_out_but_never_the_first() -> None:
    files = {"a": "x" * 50, "b": "x" * 60, "c": "x" * 10}
    assert repair.fitting(files, ["a", "b", "none", "c"], 100) == ["a", "c"]
    assert repair.fitting(files, ["b", "c"], 10) == ["b"]


def block(search: str, replacement: str) -> str:
    return f"```python\n### a.py\n<<<<<<< SEARCH\n{search}\n=======\n{replacement}\n>>>>>>> REPLACE\n```"


def test_repairs_that_change_nothing_or_break_python_are_dropped() -> None:
    files = {"a.py": "x = 1\n\ny = 2\n"}
    assert repair.patched(files, block("x = 1", "x = 3")) == {"a.py": "x = 3\n\ny = 2\n"}
    assert repair.patched(files, block("x = 1", "x = (")) == {}
    assert repair.patched(files, block("x = 1", "x = 1\n\n")) == {}
    assert repair.patched(files, block("z = 1", "z = 2")) == {}
    assert repair.patched(files, "I do not know.") == {}


def test_repairs_are_alike_but_for_comments_docstrings_and_layout() -> None:
    files = {"a.py": "def f():\n    return 1\n"}
    one = rerank.normal(files, {"a.py": 'def f():\n    """Two."""\n    return (2)  # two\n'})
    assert one == rerank.normal(files, {"a.py": "def f():\n\n    return 2\n"})
    assert one != rerank.normal(files, {"a.py": "def f():\n    return 3\n"})
    assert rerank.normal(files, {"a.py": "def f():\n    return 1  # one\n"}) == ""


@pytest.mark.parametrize(
    "text", ["x = " + "-" * 300 + "1\n", "x = a" + ".b" * 900 + "\n", "x = 0x" + "f" * 6000 + "\n"]
)
def test_python_that_parses_and_cannot_be_written_has_a_vote(text: str) -> None:
    assert "a.py" in json.loads(rerank.normal({"a.py": "x = 1\n"}, {"a.py": text}))


def test_consensus_is_the_specs() -> None:
    passed = {1: ["t1", "t2"], 2: ["t1", "t2"], 3: ["t1", "t2", "t3"], 4: [], 5: ["t1"], 6: ["t1"], 7: ["t1"]}
    assert rerank.consensus(passed) == [3]  # 3^2 * 1 = 9 against 2^2 * 2 = 8 and 1^2 * 3 = 3
    if CASES.is_file():
        cases: list[dict[str, Any]] = json.loads(CASES.read_text(encoding="utf-8"))["cases"]
        case = next(case for case in cases if case["id"] == "agentless_consensus")
        given = {int(name[1:]): tests for name, tests in case["inputs"]["passed"].items()}
        assert [f"p{number}" for number in rerank.consensus(given)] == case["expected"]["selected"]


def test_choosing() -> None:
    keys = ["A", "B", "B", "", "C"]
    assert rerank.chosen(keys) == 1  # the majority, its first
    assert rerank.chosen(["A", "B"]) == 0  # a tie goes to the first
    assert rerank.chosen(["", ""]) is None
    assert rerank.chosen(keys, broken={0: [], 1: ["t"], 2: ["t"], 4: []}) == 0
    assert rerank.chosen(keys, broken={0: [], 1: [], 2: [], 4: []}, passed={0: [], 1: [], 2: [], 4: ["r"]}) == 4
    assert rerank.chosen(keys, passed={0: [], 1: [], 2: [], 4: []}) == 1, "no test passes: they filter nothing"


def test_reproduction_tests_are_read() -> None:
    assert reproduce.written_test("So\n```python\ndef test_a():\n    assert 0\n```") == "def test_a():\n    assert 0\n"
    assert reproduce.written_test("```python\ndef test_a(:\n```") == ""
    assert reproduce.written_test("nothing") == ""
