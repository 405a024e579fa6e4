"""SWE-RL's reward: what it pays is worked by hand; that of the released function is in `cases/verifiers.yaml`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmrl.ops.judgement import roc_auc
from llmrl.rewards.swe_similarity import SweSimilarity, edited
from llmrl.swe.similarity import changes, patch_similarity
from llmrl.types import Problem, Score

FILES = {"a.py": "x = 1\ny = 1\nx = 1"}


def block(search: str, replacement: str, path: str = "a.py") -> str:
    return f"```python\n### {path}\n<<<<<<< SEARCH\n{search}\n=======\n{replacement}\n>>>>>>> REPLACE\n```\n"


def answer(*blocks: str) -> str:
    return f"<think>ok</think>\n<solution>\n{''.join(blocks)}</solution>"


def grade(text: str, oracle: dict[str, str], **options: Any) -> Score:
    columns = {"files": FILES, "oracle_new": oracle}
    return SweSimilarity(**options)(Problem(id="p", messages=(), info=columns), text)


def test_every_place_where_the_lines_begin_a_line_is_replaced() -> None:
    assert edited(FILES, answer(block("x = 1", "x = 2"))) == {"a.py": "x = 2\ny = 1\nx = 2"}
    assert edited({"a.py": "if xx = 1:\n  x = 1"}, answer(block("  x", "  y"))) == {"a.py": "if xx = 1:\n  y = 1"}
    assert edited(FILES, answer(block("x = 1\ny", "y"), block("y = 1", "z = 1"))) == {"a.py": "z = 1\nx = 1"}


def test_a_diff_has_no_names_and_an_unchanged_file_has_none() -> None:
    assert changes(FILES, {"a.py": "x = 1\ny = 2\nx = 1"}) == {
        "a.py": "@@ -1,3 +1,3 @@\n x = 1\n-y = 1\n+y = 2\n x = 1"
    }
    assert changes(FILES, FILES) == {}


def test_the_value_is_the_mean_over_the_files_of_both_sides() -> None:
    right, other = block("y = 1", "y = 2"), block("", "z = 1", "b.py")
    oracle = {"a.py": "x = 1\ny = 2\nx = 1"}
    same = grade(answer(right), oracle)
    assert (same.value, same.verdict, same.parts["same"]) == (1.0, None, 1.0)
    assert grade(answer(right, other), oracle).value == 0.5
    assert grade(answer(right), {**oracle, "b.py": "z", "c.py": "z"}).value == pytest.approx(1 / 3)
    there_and_back = answer(block("y = 1", "y = 2"), block("y = 2", "y = 1"))
    assert grade(there_and_back, FILES).value == 1.0  # neither side changes anything
    assert grade(there_and_back, oracle).value == 0.0


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "tags"),
        (answer(block("y = 1", "y = 2")) + "</think>", "tags"),
        (answer(block("y = 1", "y = 2")).replace("ok", " \n"), "tags"),
        (answer("no block"), "no_edit"),
        (f"<think>ok{answer(block('y = 1', 'y = 2')).removeprefix('<think>ok</think>')}</think>", "tags"),
        (answer(block("y = 1", "y = 1")), "same"),
        (answer(block("= 1", "= 2")), "not_found"),  # it begins no line
        (answer(block("y = 1", "y = 2"), block("y = 1", "y = 3")), "not_found"),
    ],
)
def test_what_does_not_apply(text: str, kind: str) -> None:
    score = grade(text, {"a.py": "x"})
    assert (score.value, score.verdict) == (-1.0, None)
    assert score.parts == {"applied": 0.0, f"failed_{kind}": 1.0}


def test_long_diffs_count_nothing_and_a_long_reference_is_refused() -> None:
    long = grade(answer(block("y = 1", "y = " + "2" * 100)), {"a.py": "x = 1\ny = 2\nx = 1"}, max_characters=80)
    assert (long.value, long.parts["too_long"]) == (0.0, 1.0)
    with pytest.raises(ValueError, match="longer than 10"):
        grade(answer(block("y = 1", "y = 2")), {"a.py": "x"}, max_characters=10)
    with pytest.raises(ValueError, match="no column 'files'"):
        SweSimilarity()(Problem(id="p", messages=()), "")


@pytest.mark.slow
def test_similarity_tells_changes_that_passed_the_tests_from_others(shared_data: Path) -> None:
    lines = (shared_data / "swebench/predictions_dev.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    values = [patch_similarity(row["model_patch"] or "", row["gold_patch"]) for row in rows]
    auc = roc_auc(values, [row["resolved"] for row in rows])
    assert auc is not None
    assert auc >= 0.82
    assert patch_similarity("no patch", rows[0]["gold_patch"]) == 0.0
    assert patch_similarity(rows[0]["gold_patch"], rows[0]["gold_patch"]) == 1.0
