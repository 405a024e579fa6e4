"""Measure how right and how fast the verifiers are: `python benchmarks/verifiers.py --data DIR --json OUT`.

Grades every labelled file of DIR (see docs/rewards.md), prints agreement, false accepts, false rejects and each miss,
then the answers per second of the grading pool with one and with two workers. With `--code` answers that are programs
are graded, too, by benchmarks/sandbox.py; that takes minutes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sandbox

from llmrl.protocols import Verifier
from llmrl.rewards.countdown import CountdownVerifier
from llmrl.rewards.game24 import Game24Verifier
from llmrl.rewards.math_verify import MathVerify
from llmrl.rewards.numeric import Numeric
from llmrl.scoring.manager import GradingPool
from llmrl.types import Message, Problem, Score

LIMIT_S = 5.0


@dataclass(frozen=True)
class Row:
    """A labelled answer."""

    id: str
    gold: str
    text: str
    label: bool
    contested: bool = False
    question: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)


def load(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a `.jsonl` or `.jsonl.gz` file."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def bare(row: dict[str, Any]) -> Row:
    return Row(row["id"], row["gold"], row["candidate"], row["label"], row["contested"])


def wrapped(row: dict[str, Any]) -> Row:
    """The reference between dollars and the candidate in a box, unless they are delimited already or prose."""
    gold = f"${row['gold']}$" if row["gold_form"] == "bare" else row["gold"]
    candidate = row["candidate"]
    return Row(
        row["id"],
        gold,
        f"\\boxed{{{candidate}}}" if row["candidate_form"] == "bare" else candidate,
        row["label"],
        row["contested"],
    )


def own_solution(row: dict[str, Any]) -> Row:
    """A row of MATH; contested where the solution has several boxes, of which the reference holds the last, or none."""
    contested = row["solution"].count(r"\boxed") > 1 or not row["answer"]
    return Row(row["id"], row["answer"], row["solution"], True, contested, row["problem"])


def puzzles(data: Path) -> dict[str, tuple[Verifier, list[Row]]]:
    """Games of numbers: labelled answers of GPT-4, and a solution of each puzzle."""
    outputs = load(data / "game24/gpt4_outputs_dev.jsonl")
    own = load(data / "game24/puzzles.jsonl")
    countdown = [row for split in ("train", "test") for row in load(data / f"countdown/{split}.jsonl")]
    return {
        "game24, GPT-4 outputs": (
            Game24Verifier(),
            [Row(r["id"], "24", r["output"], r["correct"], info={"nums": r["nums"]}) for r in outputs],
        ),
        "game24, own solution": (
            Game24Verifier(),
            [Row(r["id"], "24", r["one_solution"], True, info={"nums": r["nums"]}) for r in own],
        ),
        "countdown, own solution": (
            CountdownVerifier(),
            [
                Row(str(n), str(r["target"]), r["one_solution"], True, info={"nums": r["nums"], "target": r["target"]})
                for n, r in enumerate(countdown)
            ],
        ),
    }


def competitions(data: Path) -> dict[str, tuple[Verifier, list[Row]]]:
    """Reference answers of competitions against themselves, as they stand and in a box."""
    names = ("aime/aime24", "aime/aime25", "aime/amc23", "olympiadbench/oe_maths_en_text")
    answers = {name: [(r["id"], str(r["answer"])) for r in load(data / f"{name}.jsonl")] for name in names}
    verify = MathVerify()
    return {
        f"{name}, {form}": (verify, [Row(id_, gold, write(gold), True) for id_, gold in rows])
        for name, rows in answers.items()
        for form, write in (("own answer", str), ("own answer, boxed", lambda gold: f"So \\boxed{{{gold}}}."))
    }


def sets(data: Path) -> dict[str, tuple[Verifier, list[Row]]]:
    """Every labelled file, by name, with the verifier that it is for."""
    solutions = list(load(data / "gsm8k_model_solutions/dev.jsonl"))
    gsm8k = [Row(r["id"], r["gold"], r["solution"], r["is_correct"]) for r in solutions]
    grouped = load(data / "math_grouped_outputs/dev.jsonl")
    pairs = list(load(data / "math_equiv_dev.jsonl"))
    verify = MathVerify()
    return {
        "math_equiv_dev, bare": (verify, [bare(row) for row in pairs]),
        "math_equiv_dev, wrapped": (verify, [wrapped(row) for row in pairs]),
        "math_grouped_outputs": (
            verify,
            [Row(r["id"], r["gold"], r["response"], r["correct"], r["contested"]) for r in grouped],
        ),
        "gsm8k_model_solutions": (verify, gsm8k),
        "gsm8k_model_solutions, numeric": (Numeric(), gsm8k),
        "gsm8k train, own solution": (
            verify,
            [Row(r["id"], r["final_answer"], r["answer"], True) for r in load(data / "gsm8k/train.jsonl")],
        ),
        "math train, own solution": (
            verify,
            [own_solution(row) for row in load(data / "math/train.jsonl.gz")],
        ),
        **competitions(data),
        **puzzles(data),
    }


def asked(row: Row) -> tuple[Message, ...]:
    return ({"role": "user", "content": row.question},) if row.question else ()


def grade(pool: GradingPool, verifier: Verifier, rows: list[Row]) -> tuple[list[Score], list[float], float]:
    """The score and the seconds of every row, and the seconds of all together."""
    start = time.monotonic()
    problems = [Problem(id=row.id, messages=asked(row), answer=row.gold, info=row.info) for row in rows]
    futures = [pool.submit(verifier, problem, row.text) for problem, row in zip(problems, rows, strict=True)]
    outcomes = [future.result() for future in futures]
    scores = [o.value if o.kind == "value" else Score(None, "error", reason=f"{o.kind}: {o.reason}") for o in outcomes]
    return scores, [outcome.seconds for outcome in outcomes], time.monotonic() - start


def report(name: str, rows: list[Row], scores: list[Score], seconds: list[float]) -> dict[str, Any]:
    """The figures of one file, printed and returned; contested rows apart."""
    judged = list(zip(rows, scores, strict=True))
    figures: dict[str, Any] = {"name": name, "slowest_s": round(max(seconds), 3), "misses": []}
    for part, chosen in (
        ("uncontested", [pair for pair in judged if not pair[0].contested]),
        ("contested", [pair for pair in judged if pair[0].contested]),
    ):
        if not chosen:
            continue
        misses = [(row, score) for row, score in chosen if (score.value == 1.0) != row.label]
        accepted = sum(score.value == 1.0 for _, score in misses)
        figures[part] = {
            "rows": len(chosen),
            "agreement": 1 - len(misses) / len(chosen),
            "false_accepts": accepted,
            "false_rejects": len(misses) - accepted,
        }
        print(
            f"{name}, {part}: {len(chosen) - len(misses)} of {len(chosen)} ({figures[part]['agreement']:.2%}), "
            f"{accepted} false accepts, {len(misses) - accepted} false rejects"
        )
        for row, score in misses:
            print(f"    {row.id} should be {row.label}: {score.reason}")
            figures["misses"].append({"id": row.id, "label": row.label, "part": part, "reason": score.reason})
    return figures


def speed(workers: int, rows: list[Row]) -> dict[str, float]:
    """Answers per second of a warm pool."""
    with GradingPool(workers, LIMIT_S) as pool:
        grade(pool, MathVerify(), rows[: 20 * workers])
        _, _, seconds = grade(pool, MathVerify(), rows)
    print(f"math_verify, {workers} workers: {len(rows) / seconds:.0f} answers per second")
    return {"workers": workers, "answers": len(rows), "per_second": len(rows) / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--code", type=float, metavar="SECONDS", help="grade programs, too, with this limit for each")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    labelled = sets(arguments.data)
    with GradingPool(2, LIMIT_S) as pool:
        figures = [report(name, rows, *grade(pool, of, rows)[:2]) for name, (of, rows) in labelled.items()]
    if arguments.code:
        figures += [sandbox.agreement(*rows, arguments.code) for rows in sandbox.labelled(arguments.data).items()]
    distinct = [row for name, (_, rows) in labelled.items() for row in rows if "wrapped" in name or "grouped" in name]
    speeds = [speed(workers, distinct) for workers in (1, 2)]
    if arguments.json:
        arguments.json.write_text(json.dumps({"files": figures, "speed": speeds}, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
