"""Count stored rows that become samples in a second, and their memory: python benchmarks/offline_rows.py --rows 100000

Prints a line for each count of rows and each order: seconds until the first step, rows a second, and the growth of the
process's memory (resident, its peak) over the whole epoch.
"""

from __future__ import annotations

import argparse
import json
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
    options.add_argument("--one", nargs=2, metavar=("FILE", "SHUFFLE"), help="measure this alone")
    given = options.parse_args()
    if given.one:
        measure(Path(given.one[0]), given.one[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        for count in (given.rows // 10, given.rows):
            path = write(Path(folder) / f"{count}.jsonl", count)
            for shuffle in ("window", "index"):
                print(f"{count:>8} rows, {shuffle:>6}: ", end="", flush=True)
                subprocess.run([sys.executable, __file__, "--one", str(path), shuffle], check=True)


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


def measure(path: Path, shuffle: str) -> None:
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
    rate = 64 * count / (time.perf_counter() - began)
    print(
        f"first step {first:.1f} s, {rate:.0f} rows/s, peak {peak():.0f} MiB, {peak() - before:.0f} more than at first"
    )


def peak() -> float:
    """Peak of the resident memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
