from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmrl.datagen.answered import Answered
from llmrl.datagen.salmon import Judged, Making, aggregate, write
from llmrl.errors import DataError, EngineError
from llmrl.reward_models.principles import Principle, read
from llmrl.types import Problem

SHORT = Principle(name="Concise", text="Short.", opposite="Long.")
POLITE = Principle(name="Polite", text="Friendly.", opposite="Rude.")
PLAIN = Making(negate=0.0, flip=0.0, flip_ruled=0.0)


@dataclass
class Reader:
    """Judges as the frame shows: shorter is more concise; `a` is liked 0.25 nats too much; odd ones are unreadable."""

    asked: list[str] = field(default_factory=list)
    fails_at: int = 10**9

    async def gap(self, question: str) -> float:
        self.asked.append(question)
        if len(self.asked) > self.fails_at:
            raise EngineError("judge: gone")
        if "unreadable" in question:
            raise DataError("too long")
        first, second = question.split("[Answer (a)]\n")[1].split("\n\n[Criterion]")[0].split("\n\n[Answer (b)]\n")
        if "Concise" in question:
            return 0.25 + 0.1 * (len(second) - len(first))
        return 0.25 + 0.01 * (first.count("please") - second.count("please"))  # less than its liking for `a`


def given(folder: Path, rows: Sequence[Any]) -> Path:
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answered(one: str, two: str, prompt: str = "Say something.", name: str = "p") -> Answered:
    return Answered(Problem(id=name, messages=[{"role": "user", "content": prompt}]), [one, two])


def rows_of(one: Answered, gaps: dict[str, tuple[float, float]], making: Making, *more: Judged) -> list[dict[str, Any]]:
    principles = [p for p in (SHORT, POLITE) if p.name in gaps]
    return aggregate([Judged(answered=one, gaps=gaps), *more], principles, making)[0]


OTHER = Judged(answered=answered("x", "y", name="other"), gaps={"Concise": (0.0, 0.0), "Polite": (0.0, 0.0)})
ONE, TWO = "Well, if you please, here it is, in some more words.", "Here it is, in a few."


def test_orders_are_judged_both_ways_and_the_liking_for_a_is_no_preference(tmp_path: Path) -> None:
    out, judge = tmp_path / "pairs.jsonl", Reader()
    rows = [{"id": str(n), "prompt": "Say.", "responses": [ONE + "!" * n, TWO]} for n in range(4)]
    report = write(given(tmp_path, rows), out, [SHORT, POLITE], judge, judged_by="reader", making=PLAIN)
    assert len(judge.asked) == 4 * 2 * 2
    assert report.inconsistent == {"Concise": 0.0, "Polite": 1.0}
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["chosen"] for row in written} == {TWO}
    assert {row["dominant"] for row in written} == {"Concise"}
    assert report.rows == len(written) > 4
    assert report.dropped["no principle prefers one in both orders"] == 16 - report.rows
    gaps = json.loads((tmp_path / "pairs.judged.jsonl").read_text().splitlines()[1])["gaps"]["Concise"]
    assert gaps == [pytest.approx(0.25 - 3.1), pytest.approx(-0.25 - 3.1)]  # ONE is 31 characters longer


def test_what_was_judged_before_a_failure_is_not_judged_again(tmp_path: Path) -> None:
    out, answers = (
        tmp_path / "pairs.jsonl",
        given(tmp_path, [{"id": n, "prompt": "Say.", "responses": [ONE, TWO]} for n in range(20)]),
    )
    with pytest.raises(EngineError, match="gone"):
        write(answers, out, [SHORT], Reader(fails_at=21), judged_by="reader")
    kept = len((tmp_path / "pairs.judged.jsonl").read_text().splitlines()) - 1
    assert kept > 0
    judge = Reader()
    report = write(answers, out, [SHORT], judge, judged_by="reader")
    assert len(judge.asked) == 2 * (20 - kept)
    assert report.pairs == 20
    with pytest.raises(DataError, match="was begun with judge 'reader', now 'another'"):
        write(answers, out, [SHORT], judge, judged_by="another")


def test_bad_pairs_are_named(tmp_path: Path) -> None:
    rows = [
        {"id": "good", "prompt": "Say.", "responses": [ONE, TWO]},
        {"id": "short", "prompt": "Say.", "responses": ["Yes.", TWO]},
        {"id": "long", "prompt": "unreadable", "responses": [ONE, TWO]},
    ]
    report = write(given(tmp_path, rows), tmp_path / "p.jsonl", [SHORT], Reader(), judged_by="reader", making=PLAIN)
    assert report.pairs == 1
    assert report.refused.counts == {
        "an answer of fewer than 16 characters": 1,
        "a prompt with fewer than two answers": 1,
        "a pair that the judge could not read": 1,
    }
    assert "id 'long': a pair that the judge could not read: too long" in report.refused.places


def test_the_largest_gap_over_its_variance_decides() -> None:
    gaps = {"Concise": (3.0, 3.0), "Polite": (-1.0, -1.0)}
    other = Judged(answered=OTHER.answered, gaps={"Concise": (-3.0, -3.0), "Polite": (0.0, 0.0)})
    both = [
        row
        for row in rows_of(answered(ONE, TWO), gaps, Making(passes=40, negate=0.0, flip=0.0), other)
        if len(row["names"]) == 2
    ]
    assert {row["dominant"] for row in both if row["id"] == "p"} == {"Polite"}  # -1 over 0.1875, 3 over 9
    assert {row["chosen"] for row in both if row["id"] == "p"} == {TWO}


def test_a_negated_principle_shows_its_opposite_and_turns_the_label() -> None:
    found = rows_of(answered(ONE, TWO), {"Concise": (-3.0, -3.0)}, Making(passes=200, flip=0.0), OTHER)
    found = [row for row in found if row["id"] == "p"]
    assert {(tuple(row["principles"]), row["negated"][0], row["chosen"]) for row in found} == {
        (("Short.",), 0, TWO),
        (("Long.",), 1, ONE),
    }
    assert sum(row["negated"][0] for row in found) / len(found) == pytest.approx(0.5, abs=0.12)


def test_labels_are_flipped_as_often_as_asked() -> None:
    making = Making(passes=1000, negate=0.0, flip=0.1)
    found = [row for row in rows_of(answered(ONE, TWO), {"Concise": (-3.0, -3.0)}, making, OTHER) if row["id"] == "p"]
    assert sum(row["flipped"] for row in found) / 1000 == pytest.approx(0.1, abs=0.04)
    assert all((row["chosen"] == ONE) == row["flipped"] for row in found)


def test_rows_are_the_same_again_and_do_not_depend_on_other_pairs() -> None:
    gaps = {"Concise": (-3.0, -2.0), "Polite": (1.0, 1.5)}
    making = Making(passes=20, seed=3)
    once, again = (rows_of(answered(ONE, TWO), gaps, making) for _ in range(2))
    assert once == again
    drawn = [(row["names"], row["negated"]) for row in once]
    beside = [row for row in rows_of(answered(ONE, TWO), gaps, making, OTHER) if row["id"] == "p"]
    assert [(row["names"], row["negated"]) for row in beside] == drawn
    assert rows_of(answered(ONE, TWO), gaps, Making(passes=20, seed=4)) != once


def test_a_stock_disclaimer_loses_half_of_the_time() -> None:
    pair = answered("As an AI language model, I say: here it is.", "Here it is: a plain sentence.")
    found = rows_of(pair, {"Concise": (3.0, 3.0)}, Making(passes=400, negate=0.0, flip=0.0, flip_ruled=0.0), OTHER)
    found = [row for row in found if row["id"] == "p"]
    ruled = [row for row in found if row["rule"] == "disclaimer"]
    assert len(ruled) / len(found) == pytest.approx(0.5, abs=0.1)
    assert all((row["chosen"] == pair.responses[1]) == (row["rule"] == "disclaimer") for row in found)


def test_the_language_of_the_prompt_wins_and_neither_is_no_row() -> None:
    prompt = "Was ist die Hauptstadt von Frankreich, und wie alt ist sie?"
    german, english = "Die Hauptstadt ist Paris und sie ist sehr alt.", "The capital is Paris and it is very old."
    making = Making(passes=5, negate=0.0, flip=0.0, flip_ruled=0.0)
    for pair in ((german, english), (english, german)):
        found = [r for r in rows_of(answered(*pair, prompt), {"Concise": (3.0, 3.0)}, making, OTHER) if r["id"] == "p"]
        assert {(row["chosen"], row["rule"]) for row in found} == {(german, "language")}
    _, dropped = aggregate(
        [Judged(answered=answered(english, english + "!", prompt), gaps={"Concise": (3.0, 1.0)})], [SHORT], making
    )
    assert dropped == {"neither answer is in the language of the prompt": 5}


def test_rows_show_as_many_principles_as_the_draw_says(tmp_path: Path) -> None:
    principles = read()
    judged = Judged(answered=answered(ONE, TWO), gaps={one.name: (1.0, 2.0) for one in principles})
    rows, _ = aggregate([judged], principles, Making(passes=500))
    sizes = Counter(len(row["principles"]) for row in rows)
    assert set(sizes) == set(range(1, 9))
    assert sizes[1] > sizes[4] > 0
    assert all(len(set(row["names"])) == len(row["names"]) == len(row["negated"]) for row in rows)


def test_no_row_at_all_is_said(tmp_path: Path) -> None:
    rows = [{"id": "p", "prompt": "Say.", "responses": [ONE, TWO]}]
    with pytest.raises(DataError, match="1 judged pairs, and no row: no principle prefers one in both orders"):
        write(given(tmp_path, rows), tmp_path / "p.jsonl", [POLITE], Reader(), judged_by="reader", making=PLAIN)
