"""Attack the sandbox, and measure the reward `code`: `python benchmarks/sandbox.py --data DIR`.

Runs the hostile programs at each level that works here, as root or as whoever runs it; then grades the reference
solutions of HumanEval and MBPP and CodeGen's labelled samples, and lists each miss; then counts runs per second.
`--table ROOT.json USER.json` makes one table of the attacks of several runs, as docs/sandbox.md has it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe, get_context
from pathlib import Path
from typing import Any

from llmrl.checks.attacks.hostile_code import ATTACKS, HARM, HONEST, problem_of
from llmrl.checks.attacks.hostile_host import attempt
from llmrl.rewards.code import Code
from llmrl.sandbox import fence, inmate
from llmrl.sandbox import run as sandboxes
from llmrl.sandbox.isolation import Level, Limits
from llmrl.sandbox.run import Sandbox, available
from llmrl.types import Problem, Score

WORKERS = 2
LIMIT_S = 120.0  # of one attack


def load(path: Path) -> list[dict[str, Any]]:
    """The rows of a `.jsonl` file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def hostile(level: Level, timeout_s: float) -> dict[str, str]:
    """Outcome of each attack."""
    reward = Code(min_level=level, level=level, timeout_s=timeout_s, memory_mb=256)
    for problem in {problem_of(name).id: problem_of(name) for name in ATTACKS}.values():
        assert reward(problem, f"```python\n{HONEST}\n```").value == 1.0, (
            f"{problem.id}: an honest solution must get 1.0"
        )
    told = {}
    for name in ATTACKS:
        told[name] = apart(lambda name=name: outcome(*attempt(reward, name)))
        print(f"{level} | {name} | {told[name]}", flush=True)
    return told


def outcome(score: Score, harm: list[str]) -> str:
    """The verdict, whether it was rewarded, its harm, and the reason."""
    paid = "PAID" if score.value != 0.0 else ""
    return " ".join(filter(None, [str(score.verdict), paid, *harm, score.reason[:100]]))


def apart(attacked: Callable[[], str]) -> str:
    """Call a function in a process of its own, for an attack may end the process that grades it."""
    here, there = Pipe(duplex=False)
    process = get_context("fork").Process(target=lambda: there.send(attacked()))
    process.start()
    there.close()
    try:
        return str(here.recv()) if here.poll(LIMIT_S) else "error HUNG the process that grades"
    except EOFError:
        return "error KILLED the process that grades"
    finally:
        process.kill()
        process.join()


def table(files: list[Path]) -> str:
    """Outcome of each attack at each level and for each user who ran it."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    columns = [(run["who"], level, told) for run in runs for level, told in run["attacks"].items()]
    head = ["attack", *(f"{who}: {level}" for who, level, _ in columns), "why, in the last column"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in ATTACKS:
        verdicts = [told[name] for *_, told in columns]
        why = verdicts[-1].partition(" ")[2].removesuffix("; 0 of 3 tests passed").replace("|", " ")
        lines.append("| " + " | ".join([f"`{name}`", *map(short, verdicts), why]) + " |")
    return "\n".join(lines)


def short(told: str) -> str:
    """The verdict, and in bold what an attack got."""
    verdict, *rest = told.split()
    got = [word for word in rest if word in ("PAID", "KILLED", "HUNG", "LEFT", *HARM)]
    return verdict + "".join(f", **{word.lower()}**" for word in dict.fromkeys(got))


def agreement(name: str, rows: list[tuple[str, dict[str, Any], str, bool]], timeout_s: float) -> dict[str, Any]:
    """Verdicts against labels, with the misses."""
    reward = Code(timeout_s=timeout_s)

    def one(row: tuple[str, dict[str, Any], str, bool]) -> Score:
        try:
            return reward(Problem(id=row[0], messages=(), info=row[1]), row[2])
        except ValueError as error:
            return Score(None, "error", reason=str(error))

    start = time.monotonic()
    with ThreadPoolExecutor(WORKERS) as pool:
        scores = list(pool.map(one, rows))
    seconds = time.monotonic() - start
    misses = [(row[0], row[3], s.reason) for row, s in zip(rows, scores, strict=True) if (s.value == 1.0) != row[3]]
    print(f"{name}: {len(rows) - len(misses)} of {len(rows)} agree, {len(rows) / seconds:.1f} graded per second")
    for miss in misses:
        print("   ", *miss, flush=True)
    return {"rows": len(rows), "misses": misses, "per_second": len(rows) / seconds}


def labelled(data: Path) -> dict[str, list[tuple[str, dict[str, Any], str, bool]]]:
    """Labelled programs by name: id, columns, answer, label."""
    humaneval = {row["task_id"]: row for row in load(data / "humaneval/HumanEval.jsonl")}
    samples = load(data / "humaneval/codegen16b_samples_dev.jsonl")
    mbpp = load(data / "mbpp/mbpp.jsonl")
    return {
        "HumanEval, reference": [(k, row, row["canonical_solution"], True) for k, row in humaneval.items()],
        "MBPP, reference": [(f"mbpp/{r['task_id']}", r, f"```python\n{r['code']}\n```", True) for r in mbpp],
        "CodeGen-16B samples": [(r["id"], humaneval[r["task_id"]], r["completion"], r["passed"]) for r in samples],
    }


def speed(level: Level, runs: int) -> float:
    """Runs per second of a trivial program."""
    sandbox = Sandbox(level=level, min_level=level, limits=Limits(wall_s=60.0))
    start = time.monotonic()
    with ThreadPoolExecutor(WORKERS) as pool:
        outcomes = list(pool.map(lambda _: sandbox.run(["python", "-c", "print(1 + 1)"]), range(runs)))
    rate = runs / (time.monotonic() - start)
    assert all(outcome.stdout == b"2\n" for outcome in outcomes)
    print(f"{level}: {rate:.1f} runs per second with {WORKERS} at once", flush=True)
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="the folder of the data sets")
    parser.add_argument("--attacks", action="store_true", help="run the hostile programs")
    parser.add_argument("--unfenced", action="store_true", help="as on a kernel without the fence")
    parser.add_argument("--runs", type=int, default=0, help="how many trivial programs to time")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds for an answer")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--table", type=Path, nargs="+", help="files of --json to make a table of; nothing else is run")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(arguments.table))
        return
    if arguments.unfenced:
        fence.fence_version = inmate.fence_version = sandboxes.fence_version = lambda: 0
    os.environ["LLMRL_CANARY_TOKEN"] = "a secret"  # that nothing in the sandbox may see
    levels = [level for level, why in available().items() if not why]
    figures: dict[str, Any] = {"who": "root" if os.geteuid() == 0 else "user", "levels": available()}
    print(figures["levels"])
    if arguments.runs:
        figures["speed"] = {level: speed(level, arguments.runs) for level in levels}
    if arguments.attacks:
        figures["attacks"] = {level: hostile(level, arguments.timeout) for level in levels}
    if arguments.data:
        sets = labelled(arguments.data).items()
        figures["agreement"] = {name: agreement(name, rows, arguments.timeout) for name, rows in sets}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
