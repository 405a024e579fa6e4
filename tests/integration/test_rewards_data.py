"""The verifiers on the labelled files, and on the training problems' own reference solutions."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from llmrl.protocols import Verifier
from llmrl.rewards.math_verify import MathVerify
from llmrl.rewards.numeric import Numeric
from llmrl.types import Problem, Score

# Reference solutions that box two answers of which the column `answer` keeps the last, or that box none.
NOT_CORRECT = {
    "train/algebra/152.json",
    "train/algebra/1771.json",
    "train/intermediate_algebra/396.json",
    "train/intermediate_algebra/1964.json",
    "train/number_theory/796.json",
    "train/number_theory/837.json",
    "train/precalculus/860.json",
    "train/precalculus/1149.json",
}
NO_ANSWER = {"train/number_theory/7115.json", "train/number_theory/7117.json"}


def load(path: Path) -> list[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def grade(verifier: Verifier, gold: str, text: str) -> Score:
    return verifier(Problem(id="a", messages=(), answer=gold), text)


def wrong_ones(verifier: Verifier, rows: list[tuple[str, str, str, bool]]) -> dict[str, str]:
    """By id: what was read and expected where the verdict is not the label; each item within its 5 seconds."""
    misses = {}
    for id_, gold, text, label in rows:
        start = time.monotonic()
        score = grade(verifier, gold, text)
        assert time.monotonic() - start < 5.0, id_
        if (score.value == 1.0) != label:
            misses[id_] = score.reason
    return misses


@pytest.mark.parametrize("form", ["bare", "wrapped"])
def test_answer_equivalence(shared_data: Path, form: str) -> None:
    rows = [row for row in load(shared_data / "math_equiv_dev.jsonl") if not row["contested"]]
    pairs = []
    for row in rows:
        gold, candidate = row["gold"], row["candidate"]
        if form == "wrapped":
            gold = f"${gold}$" if row["gold_form"] == "bare" else gold
            candidate = f"\\boxed{{{candidate}}}" if row["candidate_form"] == "bare" else candidate
        pairs.append((row["id"], gold, candidate, row["label"]))
    misses = wrong_ones(MathVerify(), pairs)
    assert len(misses) <= 0.02 * len(rows), misses
    assert not [id_ for id_, _, _, label in pairs if id_ in misses and not label]  # no false accept


@pytest.mark.parametrize("verifier", [MathVerify(), Numeric()])
def test_gsm8k_model_solutions(shared_data: Path, verifier: Verifier) -> None:
    rows = load(shared_data / "gsm8k_model_solutions/dev.jsonl")
    assert wrong_ones(verifier, [(r["id"], r["gold"], r["solution"], r["is_correct"]) for r in rows]) == {}


def test_math_responses(shared_data: Path) -> None:
    rows = [r for r in load(shared_data / "math_grouped_outputs/dev.jsonl") if not r["contested"]]
    assert wrong_ones(MathVerify(), [(r["id"], r["gold"], r["response"], r["correct"]) for r in rows]) == {}


def require_own_solutions(shared_data: Path, every: int) -> None:
    gsm8k = load(shared_data / "gsm8k/train.jsonl")[::every]
    for verifier in (MathVerify(), Numeric()):
        assert wrong_ones(verifier, [(r["id"], r["final_answer"], r["answer"], True) for r in gsm8k]) == {}
    rows = [r for r in load(shared_data / "math/train.jsonl.gz")[::every] if r["id"] not in NO_ANSWER]
    misses = wrong_ones(MathVerify(), [(r["id"], r["answer"], r["solution"], True) for r in rows])
    assert set(misses) == NOT_CORRECT & {row["id"] for row in rows}, misses


def test_training_problems_accept_their_own_solution(shared_data: Path) -> None:
    require_own_solutions(shared_data, every=50)


@pytest.mark.slow
def test_every_training_problem_accepts_its_own_solution(shared_data: Path) -> None:
    require_own_solutions(shared_data, every=1)


def test_problems_without_an_answer_are_refused(shared_data: Path) -> None:
    rows = [row for row in load(shared_data / "math/train.jsonl.gz") if row["id"] in NO_ANSWER]
    assert len(rows) == len(NO_ANSWER)
    for row in rows:
        with pytest.raises(ValueError, match="holds no answer"):
            grade(MathVerify(), row["answer"], row["solution"])
