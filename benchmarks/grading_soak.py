"""Soak the grading pool with graders that hang or crash: `python benchmarks/grading_soak.py --json OUT`.

Grades numbers with the reward `numeric`, where one item in a hundred hangs and one in a hundred crashes: it leaves the
interpreter, kills itself, or asks for more memory than there is. The good items are graded by a plain loop in this
process, too, which gives the scores that the pool must give and the speed to compare with. Exits with 1 if a score
differs, or a process of the pool is left over.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl.rewards.numeric import Numeric
from llmrl.scoring.manager import GradingPool
from llmrl.types import Problem, Score

TOO_MUCH = 64 << 30  # bytes
CRASHES = ("exit", "kill", "memory")
AT_ONCE = 64  # gradings asked for and not yet answered


@dataclass(frozen=True)
class Faulty:
    """`numeric`, but for problems whose `info` names a fault."""

    def __call__(self, problem: Problem, text: str) -> Score:
        match problem.info.get("fault"):
            case "hang":
                while True:
                    pass
            case "exit":
                os._exit(3)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "memory":
                bytearray(TOO_MUCH)
        return Numeric()(problem, text)


@dataclass(frozen=True)
class Item:
    """A grading and its fault, "" for none."""

    problem: Problem
    text: str
    fault: str = ""


def items_of(count: int, seed: int = 0) -> list[Item]:
    """Right, wrong and unreadable answers; count / 100 of them hang, at least 2, and as many crash, in every way."""
    draw = random.Random(seed)
    some = max(count // 100, 2)
    faults = ["hang"] * some + [CRASHES[n % len(CRASHES)] for n in range(max(some, len(CRASHES)))]
    faults += [""] * (count - len(faults))
    draw.shuffle(faults)
    return [_item(number, fault, draw) for number, fault in enumerate(faults)]


def _item(number: int, fault: str, draw: random.Random) -> Item:
    a, b = draw.randrange(1000), draw.randrange(1000)
    text = draw.choice((f"{a} + {b} makes #### {a + b}", f"The answer is {a + b + 1}.", "I cannot say."))
    return Item(Problem(id=f"sum/{number}", messages=(), answer=str(a + b), info={"fault": fault}), text, fault)


def plain(items: Sequence[Item]) -> tuple[dict[str, Score], float]:
    """The scores of a loop over the items without a fault, by the problem's id, and its items per second."""
    good = [item for item in items if not item.fault]
    Faulty()(good[0].problem, good[0].text)
    start = time.monotonic()
    scores = {item.problem.id: Faulty()(item.problem, item.text) for item in good}
    return scores, len(good) / (time.monotonic() - start)


async def graded(pool: GradingPool, items: Sequence[Item], watch: list[float]) -> dict[str, Score]:
    """The pool's scores by the problem's id; `watch` gets the resident MiB of this process after each tenth."""
    scores: dict[str, Score] = {}
    waiting = iter(items)

    async def some() -> None:
        for item in waiting:
            scores[item.problem.id] = await pool.grade(Faulty(), item.problem, item.text)
            if len(scores) % max(len(items) // 10, 1) == 0:
                watch.append(resident())

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return scores


def missed(items: Sequence[Item], scores: dict[str, Score], expected: dict[str, Score]) -> list[str]:
    """Items not graded as expected: faults by `timeout` or `error` without a value, the rest as in a loop."""
    wrong = []
    for item in items:
        score = scores.get(item.problem.id)
        if item.fault:
            verdict = "timeout" if item.fault == "hang" else "error"
            right = score is not None and (score.value, score.verdict) == (None, verdict)
        else:
            right = score == expected[item.problem.id]
        if not right:
            wrong.append(f"{item.problem.id} ({item.fault or 'no fault'}): {score}")
    return wrong


def resident() -> float:
    """Resident memory of this process, MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def children() -> list[str]:
    """The processes that this one started and that still have an entry, zombies among them: number and state."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
            continue
        if int(parent) == os.getpid():
            found.append(f"{path.parent.name} {state}")
    return found


def soak(count: int, workers: int, timeout_s: float) -> dict[str, Any]:
    """The figures of one run: speeds per second, memory in MiB, what went wrong."""
    items = items_of(count)
    expected, loop = plain(items)
    before, files, start_mib, watch = children(), len(os.listdir("/proc/self/fd")), resident(), list[float]()
    with GradingPool(workers, timeout_s, memory_mb=1024) as pool:
        start = time.monotonic()
        scores = asyncio.run(graded(pool, items, watch))
        seconds = time.monotonic() - start
        good = [item for item in items if not item.fault]
        start = time.monotonic()
        again = asyncio.run(graded(pool, good, []))
        good_seconds = time.monotonic() - start
    return {
        "gradings": count,
        "workers": workers,
        "timeout_s": timeout_s,
        "faults": dict(Counter(item.fault for item in items if item.fault)),
        "verdicts": dict(Counter(str(score.verdict) for score in scores.values())),
        "wrong": missed(items, scores, expected),
        "wrong_without_faults": missed(good, again, expected),
        "left_over": [child for child in children() if child not in before],
        "files_open": [files, len(os.listdir("/proc/self/fd"))],
        "resident_mib": [start_mib, *watch],
        "seconds": seconds,
        "per_second": count / seconds,
        "per_second_without_faults": len(good) / good_seconds,
        "per_second_plain_loop": loop,
        "load_average": os.getloadavg()[0],
    }


def tell(figures: dict[str, Any]) -> None:
    """Print the figures of a run."""
    memory = figures["resident_mib"]
    print(f"{figures['gradings']} gradings in {figures['seconds']:.0f} s, faults {figures['faults']}")
    print(f"verdicts {figures['verdicts']}, {len(figures['wrong'])} not as they should be")
    for miss in (*figures["wrong"], *figures["wrong_without_faults"]):
        print("   ", miss)
    print(f"processes left over: {len(figures['left_over'])}; open files {figures['files_open']}")
    print(f"resident MiB: start {memory[0]:.1f}, middle {memory[len(memory) // 2]:.1f}, end {memory[-1]:.1f}")
    print(f"graded per second: {figures['per_second']:.1f} with faults, {figures['workers']} workers")
    print(f"graded per second: {figures['per_second_without_faults']:.0f} without faults, the same pool")
    print(f"graded per second: {figures['per_second_plain_loop']:.0f} without faults, plain loop in one process")
    print(f"load average {figures['load_average']:.1f} on {os.cpu_count()} cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gradings", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=0.3, help="seconds for an item")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    figures = soak(arguments.gradings, arguments.workers, arguments.timeout)
    tell(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(bool(figures["wrong"] or figures["wrong_without_faults"] or figures["left_over"]))


if __name__ == "__main__":
    import grading_soak  # a worker finds the graders by this name, not in __main__

    grading_soak.main()
