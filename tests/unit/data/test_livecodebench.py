"""LiveCodeBench's rows, and benchmarks of programs: tests of both kinds, hidden tests packed as the hub has them."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from llmrl import plugins
from llmrl.errors import DataError, RecipeError
from llmrl.types import Problem


def packed(value: Any) -> str:
    return squeezed(pickle.dumps(value))


def squeezed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def cases(kind: str, *pairs: tuple[str, str]) -> str:
    return json.dumps([{"input": given, "output": wanted, "testtype": kind} for given, wanted in pairs])


PROGRAM = {
    "question_title": "Sum",
    "question_content": "Print the sum of two numbers.",
    "platform": "atcoder",
    "question_id": "abc1_a",
    "contest_id": "abc1",
    "contest_date": "2024-08-03T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": cases("stdin", ("1 2\n", "3\n")),
    "private_test_cases": packed(cases("stdin", ("5 7\n", "12"))),
    "metadata": "{}",
}
METHOD = {
    **PROGRAM,
    "question_id": "3000",
    "platform": "leetcode",
    "contest_date": "2024-09-01T00:00:00",
    "starter_code": "class Solution:\n    def pair(self, items: List[int], name: str) -> List[int]:\n        ",
    "public_test_cases": cases("functional", ('[1, 2]\n"a"', "[1, 2]")),
    "private_test_cases": cases("functional", ('[3]\n"b"', "[3, 3]"), ('[]\n""', "null")),
    "metadata": json.dumps({"func_name": "pair"}),
}


def read(tmp_path: Path, *rows: Mapping[str, Any], **options: Any) -> list[Problem]:
    path = tmp_path / "test6.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return list(plugins.build("data", {"name": "livecodebench", "path": str(path), **options}).problems())


def test_programs_and_methods_with_shown_and_hidden_tests(tmp_path: Path) -> None:
    program, method = read(tmp_path, PROGRAM, METHOD)
    assert (program.id, program.info["difficulty"], method.info["platform"]) == ("abc1_a", "easy", "leetcode")
    assert json.loads(program.info["input_output"]) == {"inputs": ["1 2\n", "5 7\n"], "outputs": ["3\n", "12"]}
    assert "standard input" in program.messages[0]["content"]
    assert "def pair(" in method.messages[0]["content"]
    assert method.info["entry_point"] == "Solution"
    assert method.info["tests"][0].startswith("found = Solution().pair([1, 2], 'a')\n")
    assert method.info["tests"][2].endswith("== None")


def test_contests_of_a_time(tmp_path: Path) -> None:
    assert [p.id for p in read(tmp_path, PROGRAM, METHOD, since=date(2024, 8, 4))] == ["3000"]
    assert [p.id for p in read(tmp_path, PROGRAM, METHOD, since="2024-08-04")] == ["3000"]
    assert [p.id for p in read(tmp_path, PROGRAM, METHOD, since="2024-08-03", until="2024-09-01")] == ["abc1_a"]
    with pytest.raises(RecipeError, match="since '2024-8-4': expected a day such as"):
        read(tmp_path, PROGRAM, METHOD, since="2024-8-4")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"private_test_cases": packed([1])}, "private_test_cases: expected a list of objects"),
        ({"private_test_cases": packed(os.system)}, "names posix.system; expected text alone"),
        ({"private_test_cases": "eA=="}, "cannot be unpacked"),
        *(({"private_test_cases": squeezed(code)}, "cannot be unpacked") for code in (b"Vx\n}b.", b"Vx\n)R.", b"Vx")),
        ({"private_test_cases": "no letters of it!"}, "cannot be unpacked"),
        ({"public_test_cases": "[{"}, "public_test_cases: no JSON"),
        ({"public_test_cases": '[{"input": 1, "output": "1"}]'}, "both text"),
        ({"public_test_cases": cases("functional", ("1", "1"))}, "found .'functional', 'stdin'."),
        ({"contest_date": None}, "column 'contest_date' is null"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=f"test6.jsonl:1: .*{words}"):
        read(tmp_path, {**PROGRAM, **change})


RIGHT = "class Solution:\n    def pair(self, items, name):\n        return (items * 2)[:2] or None"


@pytest.mark.parametrize(
    ("row", "text", "right"),
    [
        (PROGRAM, "a, b = map(int, input().split())\nprint(a + b)", True),
        (PROGRAM, "print(3)", False),  # passes what is shown
        (METHOD, RIGHT, True),
        (METHOD, RIGHT.replace("(items * 2)[:2]", "tuple((items * 2)[:2])"), True),
        (METHOD, RIGHT.replace("* 2", "* 1"), False),
    ],
)
def test_the_reward_runs_both_kinds(tmp_path: Path, row: dict[str, Any], text: str, right: bool) -> None:
    (problem,) = read(tmp_path, row)
    score = plugins.build("reward", {"name": "code", "timeout_s": 20.0})(problem, f"```python\n{text}\n```")
    assert score.correct is right, score.reason
