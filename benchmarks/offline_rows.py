"""Count stored rows that become samples in a second, and their memory: python benchmarks/offline_rows.py --rows 100000

Prints a line for each count of rows and each order: seconds until the first step, rows a second, the growth of the
process's memory (resident, its peak) over the whole epoch, and its child processes, of which an engine would be one.
`--json` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Measure each case in a process of its own."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--json", type=Path, help="file for the figures")
    options.add_argument("--one", nargs=2, metavar=("FILE", "SHUFFLE"), help="measure this alone")
    given = options.parse_args()
    if given.one:
        print(json.dumps(measure(Path(given.one[0]), given.one[1])))
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (given.rows // 10, given.rows):
            path = write(Path(folder) / f"{count}.jsonl", count)
            for shuffle in ("window", "index"):
                command = [sys.executable, __file__, "--one", str(path), shuffle]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                results.append({"rows": count, "shuffle": shuffle, **json.loads(done.stdout.splitlines()[-1])})
                print("  ".join(f"{name} {value}" for name, value in results[-1].items()), flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def write(path: Path, count: int) -> Path:
    """Rows of about 200 characters."""
    with path.open("w") as file:
        for i in range(count):
            row = {
                "prompt": f"What is {i} and {i + 1}? " + "Say why. " * 8,
                "completion": "It is so. " * 8,
                "reward": i % 2,
            }
            file.write(json.dumps(row) + "\n")
    return path


def measure(path: Path, shuffle: str) -> dict[str, float | list[str]]:
    """Read an epoch as a run does, 64 rows a step."""
    from llmrl.chat import Chat
    from llmrl.plugins import build
    from llmrl.recipe import RolloutOptions
    from llmrl.rollout.context import SourceContext
    from llmrl.tiny import make_tokenizer

    options = RolloutOptions(prompts_per_step=64)
    context = SourceContext(chat=Chat(make_tokenizer()), options=options, seed=0, folder=path.parent)
    began = time.perf_counter()
    source = build("source", {"name": "offline", "path": str(path), "shuffle": shuffle}).start(context)
    source.next(0)
    first, before = time.perf_counter() - began, peak()
    count, began = 0, time.perf_counter()
    while source.metrics["offline/epoch"] == 0:
        source.next(count + 1)
        count += 1
    seconds = time.perf_counter() - began
    return {
        "first_step_s": round(first, 1),
        "rows_per_s": round(64 * count / seconds),
        "peak_mib": round(peak()),
        "growth_mib": round(peak() - before),
        "children": children(),
    }


def children() -> list[str]:
    """Last line of the command of each process that this one has started; `rendering.serve` renders chat templates."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    commands = [Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ") for pid in pids]
    return [command.strip().rpartition("\n")[2] for command in commands]


def peak() -> float:
    """Peak of the resident memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
