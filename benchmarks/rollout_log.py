"""Measure the log of a large step's episodes, with their tokens and without: docs/run_folder.md.

python benchmarks/rollout_log.py --episodes 1024 --tokens 2048
"""

from __future__ import annotations

import argparse
import sys
import time
from array import array
from collections.abc import Sequence
from math import inf
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmrl.types import Trajectory

ROOT = Path(__file__).resolve().parents[1]
GROUP = 8  # episodes
PROMPT = 200  # tokens


def episode(number: int, tokens: int, random: Random) -> Trajectory:
    """An answer of random tokens, four characters each."""
    from llmrl.types import Completion, Problem, Score, Trajectory, Turn

    ids = array("i", [random.randrange(150_000) for _ in range(tokens)])
    logprobs = array("f", [-random.expovariate(1.0) for _ in range(tokens)])
    prompt = array("i", range(PROMPT))
    messages = [{"role": "user", "content": "why " * PROMPT}]
    return Trajectory(
        problem=Problem(id="p", messages=messages),
        turns=[
            Turn(
                prompt_ids=prompt,
                completion=Completion(token_ids=ids, logprobs=logprobs, finish="stop", version=0),
                text="word" * tokens,
            )
        ],
        status="done",
        score=Score(1.0, "correct", answer="4"),
        group=f"{number // GROUP}/p",
        episode=number % GROUP,
        shown=messages,
    )


def measured(groups: Sequence[Sequence[Trajectory]], tokens_mb: float) -> str:
    """A row of the table: seconds of the processor to write and to read, and the size."""
    from llmrl.run_folder import reader
    from llmrl.run_folder.writer import Logs

    with TemporaryDirectory() as folder:
        began = time.process_time()
        Logs(Path(folder), writes=True, share=1.0, tokens_mb=tokens_mb).rollouts(0, groups, [])
        written = time.process_time()
        count = sum(record.tokens for record in reader.episodes(Path(folder)))
        read = time.process_time()
        size = (Path(folder) / "rollouts.jsonl").stat().st_size
    seconds = f"{written - began:.2f} s | {read - written:.2f} s"
    return f"| {seconds} | {size / 1e6:.1f} MB | {size / count:.1f} bytes a token |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=2048, help="of each")
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))
    random = Random(0)
    episodes = [episode(number, options.tokens, random) for number in range(options.episodes)]
    groups = [episodes[first : first + GROUP] for first in range(0, len(episodes), GROUP)]
    print("| | write | read | file | |\n|---|---|---|---|---|")
    for name, tokens_mb in (("with tokens", inf), ("without", 0.0)):
        print(f"| {name} {measured(groups, tokens_mb)}")


if __name__ == "__main__":
    main()
