"""Several datasets as one."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from llmrl.datafiles.canonical import canonical
from llmrl.errors import DataError, RecipeError
from llmrl.plugins import build
from llmrl.types import Problem


def sums(count: int, **options: Any) -> dict[str, Any]:
    return {"data": {"name": "arithmetic", "count": count}, **options}


def problems(**sources: Any) -> list[Problem]:
    keep_rest = sources.pop("keep_rest", False)
    return list(build("data", {"name": "mixture", "sources": sources, "keep_rest": keep_rest}).problems())


def names(found: list[Problem]) -> str:
    return "".join(problem.info["source"] for problem in found)


def test_sources_take_turns_by_weight() -> None:
    found = names(problems(a=sums(60, weight=2), b=sums(90)))
    for stop in range(1, len(found) + 1):
        assert abs(found[:stop].count("a") - 2 / 3 * stop) <= 1
    assert names(problems(a=sums(60, weight=2), b=sums(90))) == found, "nothing is drawn at random"


def test_three_sources_keep_their_shares() -> None:
    found = names(problems(a=sums(500, weight=0.7), b=sums(500, weight=0.2), c=sums(500, weight=0.1)))
    shares = {name: count / len(found) for name, count in Counter(found).items()}
    assert shares == pytest.approx({"a": 0.7, "b": 0.2, "c": 0.1}, abs=0.005)


def test_the_mixture_ends_with_a_source_or_goes_on_with_the_rest() -> None:
    assert names(problems(a=sums(2), b=sums(9))) == "aba"
    assert names(problems(a=sums(2), b=sums(9), keep_rest=True)) == "ababbbbbbbb"


def test_ids_and_info_name_the_source() -> None:
    first, second = islice(problems(a=sums(3), b={"data": {"name": "gsm8k", "split": "tiny"}}), 2)
    assert first.id.startswith("a/arithmetic/")
    assert first.info["operator"] == "+"
    assert (second.id, second.info["source"]) == ("b/gsm8k/tiny/0", "b")
    same = problems(a=sums(5), b=sums(5))
    assert len({problem.id for problem in same}) == len(same), "also where both hold the same problems"


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "3",
            "-3",
            "1,234.5",
            "10\\%",
            "3/4",
            "\\frac{3}{4}",
            "$\\sqrt{2}$",
            "(1, 2]",
            "x = 5",
            "y=2x+1",
            "B",
            "(C)",
            "5 m",
        ),
        *("\\boxed{7}", "so it is \\boxed{7}", "1e-3", "\\(x^2\\)", "2\\pi", "yes", "3:4", "90^\\circ"),
    ],
)
def test_short_answers(answer: str) -> None:
    assert canonical(answer)


@pytest.mark.parametrize(
    "answer",
    [
        *("", " ", "see the proof above", "12 apples", "both A and B", "3. And also 4, because", "abc", "(1, 2", "1)"),
        *("{2)", "1" * 41, "x\ny", "Paris", "the answer is 7", "\\text{depends}", "?", "+"),
    ],
)
def test_other_references_are_left_out(answer: str) -> None:
    assert not canonical(answer)


def test_most_references_of_clean_sets_are_short() -> None:
    gsm8k = build("data", {"name": "gsm8k", "split": "tiny"}).problems()
    assert all(canonical(problem.answer) for problem in gsm8k)


def rows(path: Path, *lines: dict[str, Any]) -> dict[str, Any]:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"name": "jsonl", "path": str(path)}


def test_noisy_references_and_problems_that_nobody_solves_are_left_out(tmp_path: Path) -> None:
    data = rows(
        tmp_path / "web.jsonl",
        {"prompt": "1?", "answer": "7"},
        {"prompt": "2?", "answer": "it depends"},
        {"prompt": "3?", "answer": "9"},
    )
    judged = [("web/0", "correct", 1), ("web/0", "wrong", 0), ("web/2", "wrong", 0), ("web/2", "error", None)]
    rows(tmp_path / "records.jsonl", *({"problem": p, "verdict": v, "value": value} for p, v, value in judged))
    records = str(tmp_path / "records.jsonl")
    kept = problems(web={"data": data, "short_answers": True, "records": records})
    assert [problem.id for problem in kept] == ["web/web/0"]
    assert len(problems(web={"data": data, "short_answers": True})) == 2
    with pytest.raises(DataError, match=r"data\.sources\.web: no problem is kept"):
        problems(web={"data": data, "short_answers": True, "records": records, "min_pass_rate": 0.5})
    with pytest.raises(DataError, match=r"records\.jsonl: no judged completion of problem 'web/1' of source web"):
        problems(web={"data": data, "records": records})


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({}, "sources is empty"),
        ({"a": {"data": {"name": "gsm9k"}}}, r"sources\.a.*did you mean 'gsm8k'"),
        ({"a": {"data": {"name": "gsm8k"}, "wieght": 2}}, r"sources\.a\.wieght: unknown key; did you mean 'weight'"),
        ({"a": {"data": {"name": "gsm8k"}, "weight": 0}}, r"weight 0.0: expected above 0"),
        ({"a": {"weight": 1}}, r"sources\.a\.data: missing"),
    ],
)
def test_odd_sources_are_refused(sources: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build("data", {"name": "mixture", "sources": sources})
