"""Numbers of a benchmark, of records by hand."""

from __future__ import annotations

from typing import Any

import pytest

from llmrl.evaluation.summary import summarise
from llmrl.types import Problem

PROBLEMS = [Problem(id=name, messages=[], answer="1", info={"level": name}) for name in ("a", "b")]


def record(verdict: str, tokens: int | None = 4, **facts: Any) -> dict[str, Any]:
    value = {"correct": 1.0, "wrong": 0.0}.get(verdict)
    return {"value": value, "verdict": verdict, "tokens": tokens, "finish": "stop", "final": None, **facts}


def summary(*each: list[dict[str, Any]]) -> dict[str, Any]:
    records = {(PROBLEMS[i].id, k): one for i, own in enumerate(each) for k, one in enumerate(own)}
    return summarise(PROBLEMS[: len(each)], records, len(each[0]), ["level"], seed=0)


def test_a_problem_counts_once_however_many_attempts_were_judged() -> None:
    result = summary(
        [record("correct"), record("error"), record("error")], [record("wrong"), record("wrong"), record("wrong")]
    )
    values = {name: each["value"] for name, each in result["metrics"].items()}
    assert values["avg@3"] == 0.5
    assert values["pass@2"] == 0.0, "the first problem has no two judged attempts"
    assert result["unjudged"] == 2
    assert [own["avg@3"]["value"] for own in result["by"]["level"].values()] == [1.0, 0.0]


def test_the_mean_length_is_of_answers_that_were_given_and_measured() -> None:
    refused = record("error", tokens=0, finish=None)
    assert summary([record("correct", 4), record("wrong", 8), refused])["mean_tokens"] == 6.0
    assert summary([record("correct", None), refused])["mean_tokens"] is None


def test_an_answer_that_was_cut_off_is_told_by_its_finish_or_its_episode() -> None:
    result = summary(
        [record("wrong", finish="length"), record("correct"), record("wrong", cut_off=True), record("wrong")]
    )
    assert result["truncated"] == pytest.approx(0.5)
