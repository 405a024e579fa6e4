"""Mathematical equality: pairs by category, as bare text and as a boxed answer to a reference between dollars."""

from __future__ import annotations

import json
import pickle
import threading
from pathlib import Path

import pytest

from llmrl.answers.extract import final_answer
from llmrl.rewards.math_verify import MathVerify
from llmrl.types import Problem, Score

ROWS = [json.loads(line) for line in (Path(__file__).parent / "math_cases.jsonl").read_text("utf-8").splitlines()]
CATEGORIES = sorted({row["category"] for row in ROWS})


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    MathVerify().warm_up()


def grade(gold: str, text: str) -> Score:
    return MathVerify()(Problem(id="a", messages=(), answer=gold), text)


def misses(rows: list[tuple[str, str, bool]]) -> list[tuple[str, str, str]]:
    graded = [(gold, text, label, grade(gold, text)) for gold, text, label in rows]
    return [(gold, text, score.reason) for gold, text, label, score in graded if (score.value == 1.0) != label]


@pytest.mark.parametrize("category", CATEGORIES)
def test_bare(category: str) -> None:
    assert misses([(r["gold"], r["candidate"], r["label"]) for r in ROWS if r["category"] == category]) == []


@pytest.mark.parametrize("category", [name for name in CATEGORIES if name not in ("response", "boxes")])
def test_wrapped(category: str) -> None:
    rows = [
        (f"${r['gold']}$" if "\\$" not in r["gold"] else r["gold"], f"So \\boxed{{{r['candidate']}}}.", r["label"])
        for r in ROWS
        if r["category"] == category
    ]
    assert misses(rows) == []


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{\frac{1}{2}}, hence", r"\frac{1}{2}"),
        (r"\boxed{1} wait, \boxed{2}", "2"),
        (r"$\boxed{1}$ and $\boxed{2}$", "1, 2"),
        (r"\boxed{\boxed{3}}", r"3"),
        (r"\boxed{3", "3"),
        ("#### 1,000", "1,000"),
        ("<think>4</think><answer>5</answer>", "5"),
        ("The answer is $x=5$ and $y=3$.", "x=5, y=3"),
        ("The answer is 3.14.", "3.14"),
        ("12 apples. So there are 5 pears.", "5"),
        ("", None),
        (r"\boxed{}", None),
    ],
)
def test_final_answer(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


def test_verdicts_and_reasons() -> None:
    assert grade("4", r"\boxed{4}").verdict == "correct"
    wrong = grade("4", r"\boxed{5}")
    assert (wrong.value, wrong.verdict, wrong.reason) == (0.0, "wrong", "read '5', expected '4'")
    assert (grade("4", " \n").value, grade("4", " \n").verdict) == (0.0, "unparsable")
    assert grade("4", "\\boxed{" + "1+" * 2000 + "1}").verdict == "unparsable"


@pytest.mark.parametrize("reference", ["", "  ", r"\boxed{}"])
def test_an_unreadable_reference_is_refused(reference: str) -> None:
    with pytest.raises(ValueError, match="holds no answer"):
        grade(reference, "4")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "bomb",
    [
        "9^{9^{9^{9}}}",
        "(10^{10^{10}})!",
        r"\binom{10^{9}}{5\cdot 10^{8}}",
        "((((9!)!)!)!)",
        r"\sin(9^{9^{9}})",
        "2^{-9^{9^9}}",
    ],
)
def test_huge_numbers_are_decided_at_once(bomb: str) -> None:
    assert grade(bomb, rf"\boxed{{{bomb}}}").verdict == "correct"
    assert grade("3", rf"\boxed{{{bomb}}}").verdict == "wrong"
    assert grade(bomb, r"\boxed{10^{10}}").verdict == "wrong"


@pytest.mark.timeout(60)
def test_hostile_text_is_decided_soon() -> None:
    for text in [
        "(" * 1500,
        "{" * 5000,
        "$" * 5000,
        "\\frac" * 300,
        "a " * 20000,
        "1," * 900,
        "x^" * 900,
        "\\boxed{" * 2000,
    ]:
        assert grade("4", text).value == 0.0


def test_nested_relations_are_decided() -> None:
    assert grade(r"(-\infty,1) \cup (2,3)", r"\boxed{(-\infty, a=1) \cup (2,3)}").verdict == "wrong"
    assert grade(r"(0,1)", r"\boxed{(x=0, 1)}").verdict == "wrong"


def test_in_a_thread() -> None:
    scores: list[Score] = []
    thread = threading.Thread(target=lambda: scores.append(grade(r"\frac{1}{2}", r"\boxed{0.5}")))
    thread.start()
    thread.join()
    assert scores[0].verdict == "correct"


def test_it_is_a_value() -> None:
    assert pickle.loads(pickle.dumps(MathVerify())) == MathVerify()


@pytest.mark.parametrize(
    ("question", "answer", "gold", "right"),
    [
        ("How many million tons are used?", r"$\boxed{2.2}$ million tons", "2.2", 1.0),
        ("How many millions of people live there?", "The answer is 2.2 million people.", "2.2", 1.0),
        ("How many thousand dollars did it cost?", r"\boxed{5} thousand", "5", 1.0),
        ("How many million tons are used?", r"\boxed{2.2}", "2.2", 1.0),
        ("How many million tons are used?", r"$\boxed{2.2}$ thousand tons", "2.2", 0.0),
        ("How many million tons are used?", r"$\boxed{2.3}$ million tons", "2.2", 0.0),
        ("How many million tons are used?", r"\boxed{2200000}", "2.2", 0.0),
        ("How many tons of a million are used?", r"$\boxed{2.2}$ million tons", "2.2", 0.0),
    ],
)
def test_a_question_may_count_by_millions(question: str, answer: str, gold: str, right: float) -> None:
    problem = Problem(id="p", messages=({"role": "user", "content": question},), answer=gold)
    assert MathVerify()(problem, answer).value == right
