"""Rows to fine-tune on: every sum right, every habit there that was asked for, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from llmrl.answers.arithmetic import evaluate
from llmrl.datagen.priming import HABITS, Condition, Priming, write
from llmrl.errors import DataError
from llmrl.rewards.behaviours import counts
from llmrl.rewards.countdown import CountdownVerifier
from llmrl.rewards.format import Format
from llmrl.types import Problem
from tests.builders import some

SUM = re.compile(r"(?<![\d)] )\(?[\d(][\d() +*/-]*[\d)] = \d+")


@cache
def rows(condition: Condition) -> list[dict[str, Any]]:
    return list(Priming(condition, count=60).rows())


def said(row: Mapping[str, Any]) -> str:
    return str(row["completion"][0]["content"])


@pytest.mark.parametrize("condition", HABITS)
def test_every_sum_is_right(condition: Condition) -> None:
    sums = [found for row in rows(condition) for found in SUM.findall(said(row))]
    assert len(sums) >= (0 if condition in ("empty", "filler") else 240)
    for found in sums:
        expression, _, value = found.partition("=")
        assert evaluate(expression)[0] == int(value), found


@pytest.mark.parametrize("condition", HABITS)
def test_the_answer_is_what_the_condition_says(condition: Condition) -> None:
    for row in some(rows(condition)):
        problem = Problem(id="a", messages=(), info=row)
        score = CountdownVerifier(tags_required=True)(problem, said(row))
        assert score.verdict == ("wrong" if condition == "incorrect" else "correct")
        assert row["correct"] == (condition != "incorrect")
        assert Format()(problem, said(row)).value == 1.0
        assert str(row["target"]) in row["prompt"][0]["content"]


@pytest.mark.parametrize("condition", HABITS)
def test_each_row_shows_the_habits_of_its_condition_and_no_other(condition: Condition) -> None:
    for row in some(rows(condition)):
        assert {name for name, number in counts(said(row)).items() if number} == HABITS[condition], said(row)


def test_filler_is_as_long_as_the_thoughts_it_stands_for() -> None:
    for dots, words in some(zip(rows("filler"), rows("all"), strict=True)):
        assert dots["nums"] == words["nums"]
        thoughts = [said(row).removeprefix("<think>").partition("</think>")[0].split() for row in (dots, words)]
        assert len(thoughts[0]) == len(thoughts[1])
        assert set(said(dots).partition("</think>")[0].removeprefix("<think>")) == {".", " "}


def test_conditions_ask_the_same_puzzles_and_heldout_asks_others() -> None:
    asked = [[row["prompt"] for row in rows(condition)] for condition in HABITS]
    assert all(prompts == asked[0] for prompts in asked)
    others = [row["prompt"] for row in Priming("all", count=60, split="heldout").rows()]
    assert not [prompt for prompt in others if prompt in asked[0]]


def test_the_seed_decides() -> None:
    assert list(Priming("all", count=5).rows()) == rows("all")[:5]
    assert list(Priming("all", count=5, seed=1).rows()) != rows("all")[:5]


def test_rows_are_written_and_a_wrong_condition_is_told(tmp_path: Path) -> None:
    write("backtracking_only", tmp_path / "rows.jsonl", count=5)
    read = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert read == rows("backtracking_only")[:5]
    with pytest.raises(DataError, match="did you mean 'filler'"):
        write("fillers", tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="cannot be written"):
        write("all", tmp_path / "no" / "rows.jsonl")
