"""`math_verify` against the package of that name: `python benchmarks/math_speed.py --data DIR --json OUT`.

Grades the same labelled answers by a plain loop over the package (`parse` of reference and answer, `verify`), by a
plain loop over the reward, with and without its cache of parsed references, and by the pool with one and two workers.
The ways take turns; each figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from verifiers import LIMIT_S, Row, grade, load

from llmrl.rewards import math_verify
from llmrl.rewards.math_verify import MathVerify
from llmrl.scoring.manager import GradingPool
from llmrl.types import Problem

Way = Callable[[list[Row]], list[bool]]


def rows_of(data: Path, count: int) -> dict[str, list[Row]]:
    """The first answers of each file, contested ones left out."""
    grouped = load(data / "math_grouped_outputs/dev.jsonl")
    solutions = load(data / "gsm8k_model_solutions/dev.jsonl")
    return {
        "math_grouped_outputs": [
            Row(r["id"], r["gold"], r["response"], r["correct"]) for r in grouped if not r["contested"]
        ][:count],
        "gsm8k_model_solutions": [Row(r["id"], r["gold"], r["solution"], r["is_correct"]) for r in solutions][:count],
    }


def package(rows: list[Row]) -> list[bool]:
    """Grade by the package as in its README: the reference between dollars, the answer as it stands."""
    from math_verify import parse, verify

    return [verify(parse(f"${row.gold}$"), parse(row.text)) for row in rows]


def reward(rows: list[Row]) -> list[bool]:
    """Grade in this process; each reference is parsed once."""
    math_verify._reference.cache_clear()
    return [MathVerify()(Problem(id=r.id, messages=(), answer=r.gold), r.text).value == 1.0 for r in rows]


def uncached(rows: list[Row]) -> list[bool]:
    """Grade in this process, each reference parsed anew for each answer."""
    return [right for row in rows for right in reward([row])]


def pooled(pool: GradingPool) -> Way:
    """Grade by the workers of a pool."""
    return lambda rows: [score.value == 1.0 for score in grade(pool, MathVerify(), rows)[0]]


def compared(name: str, rows: list[Row], ways: dict[str, Way], rounds: int) -> dict[str, Any]:
    """Answers per second and agreement of each way, printed and returned."""
    measured: dict[str, Any] = {way: {"seconds": [], "cpu_seconds": []} for way in ways}
    for _ in range(rounds):
        for way, judge in ways.items():
            start, cpu = time.monotonic(), time.process_time()
            judged = judge(rows)
            measured[way]["seconds"].append(time.monotonic() - start)
            measured[way]["cpu_seconds"].append(time.process_time() - cpu)  # of this process, not of workers
            measured[way]["as_labelled"] = sum(right == row.label for right, row in zip(judged, rows, strict=True))
    for way, figures in measured.items():
        figures["per_second"] = len(rows) / statistics.median(figures["seconds"])
        figures["per_cpu_second"] = len(rows) / statistics.median(figures["cpu_seconds"]) if "loop" in way else None
        busy = f", {figures['per_cpu_second']:.0f} per CPU second" if "loop" in way else ""
        right = f"{figures['as_labelled']} of {len(rows)} as labelled"
        print(f"{name}, {way}: {figures['per_second']:.0f} answers per second{busy}, {right}", flush=True)
    return {"file": name, "rows": len(rows), "references": len({row.gold for row in rows}), "ways": measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--rows", type=int, default=400, help="answers of each file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    files = rows_of(arguments.data, arguments.rows)
    with GradingPool(1, LIMIT_S) as one, GradingPool(2, LIMIT_S) as two:
        ways = {
            f"the package math-verify {version('math-verify')}, plain loop": package,
            "llmrl, plain loop, references parsed anew": uncached,
            "llmrl, plain loop": reward,
            "llmrl, 1 worker": pooled(one),
            "llmrl, 2 workers": pooled(two),
        }
        for judge in ways.values():  # imports, and workers that start
            judge(files["math_grouped_outputs"][:40])
        figures = [compared(name, rows, ways, arguments.rounds) for name, rows in files.items()]
    load_average = os.getloadavg()[0]
    print(f"load average {load_average:.1f} on {os.cpu_count()} cores")
    if arguments.json:
        told = {"rounds": arguments.rounds, "load_average": load_average, "files": figures}
        arguments.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
