"""Measure `llmrl view` on a large `rollouts.jsonl`: docs/view.md. Writes the file, measures, and removes it.

python benchmarks/view.py --gigabytes 1 --tokens 1024 --out /tmp/view-benchmark
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
STEP = 1024  # episodes
RARE = "a needle in this hay"


def write(folder: Path, size: int, tokens: int) -> int:
    """Write a run of so many bytes; its episodes are those of one step, under other names. Returns the steps."""
    sys.path.insert(0, str(ROOT))
    from llmrl.run_folder.records import EpisodeRecord
    from llmrl.types import Completion, Problem, Score, Trajectory, Turn

    random, steps, written = Random(0), 0, 0
    problem = Problem(id="p", messages=[{"role": "user", "content": "why " * 200}], answer="4")
    lines = []
    for number in range(STEP):
        length = random.randrange(tokens // 2, tokens * 3 // 2)
        ids = array("i", [random.randrange(150_000) for _ in range(length)])
        logprobs = array("f", [-random.expovariate(1.0) for _ in range(length)])
        completion = Completion(token_ids=ids, logprobs=logprobs, finish="stop", version=0)
        turn = Turn(prompt_ids=array("i", range(200)), completion=completion, text="word" * length)
        right = random.random() < 0.3
        score = Score(float(right), "correct" if right else "wrong", reason="read 4", answer="4")
        played = Trajectory(problem=problem, turns=[turn], status="done", score=score, group="G", episode=number % 8)
        numbers: dict[str, Any] = {"advantages": 0.5, "entropies": [0.123] * length, "trainer_gaps": [1e-5] * length}
        record = EpisodeRecord(step=0, trajectory=played, tokens=length, token_numbers=[numbers])
        lines.append(json.dumps(record.to_json(), separators=(",", ":")))
    folder.mkdir(parents=True)
    with (folder / "rollouts.jsonl").open("w") as file, (folder / "metrics.jsonl").open("w") as metrics:
        while written < size:
            for number, line in enumerate(lines):
                line = line.replace('{"step":0', f'{{"step":{steps}', 1)
                line = line.replace('"group":"G"', f'"group":"{steps}/{number // 8}"', 1)
                if number == steps:
                    line = line.replace("wordword", RARE, 1)
                written += file.write(line + "\n")
            metrics.write(json.dumps({"step": steps, "reward": 0.3}) + "\n")
            steps += 1
    return steps


class Viewer:
    """`llmrl view` over a folder, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "llmrl", "view", str(folder), "--port", "0"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r"http://\S+", self.process.stdout.readline())
        assert found, "it has not started"
        self.address = found[0]

    def ask(self, name: str, **query: object) -> tuple[float, Any]:
        """Seconds to an answer, and the answer."""
        began = time.perf_counter()
        with urlopen(f"{self.address}api/{name}?{urlencode(query)}") as response:
            answer = json.load(response)
        return time.perf_counter() - began, answer

    def memory(self) -> tuple[float, float]:
        """MB that it holds now, and at most so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        now, most = (re.search(rf"{name}:\s+(\d+)", status) for name in ("VmRSS", "VmHWM"))
        assert now is not None
        assert most is not None
        return int(now[1]) / 1e3, int(most[1]) / 1e3

    def close(self) -> float:
        """End it; the seconds that this took."""
        began = time.perf_counter()
        self.process.terminate()
        self.process.wait(20)
        return time.perf_counter() - began


def measured(folder: Path, run: str, last: int, title: str) -> None:
    """Print a column: the run opened as it stands, filtered, searched."""
    viewer = Viewer(folder)
    rows: list[tuple[str, str]] = []
    try:
        viewer.ask("runs")
        base = viewer.memory()[0]
        seconds = {"the last step is there": 0.0}
        began = time.perf_counter()
        steps = viewer.ask("steps", run=run)[1]["steps"]
        viewer.ask("episodes", run=run, step=steps[-1]["step"], limit=100)
        seconds["the last step is there"] = time.perf_counter() - began
        while (answer := viewer.ask("steps", run=run)[1])["progress"] < 1:
            time.sleep(0.02)
        assert len(answer["steps"]) == last + 1
        seconds["all steps are there"] = time.perf_counter() - began
        seconds["an episode is opened"] = viewer.ask("episode", run=run, step=last // 2, row=77)[0]
        found = viewer.ask("episodes", run=run, verdict="wrong", least_tokens=900, order="reward", limit=100)
        seconds[f"all steps filtered and sorted: {found[1]['total']} episodes"] = found[0]
        seconds["a step searched for words"] = viewer.ask("episodes", run=run, step=last, text=RARE)[0]
        began = time.perf_counter()
        while (answer := viewer.ask("episodes", run=run, text=RARE)[1])["searched"] < 1:
            pass
        assert answer["total"] == last + 1, answer["total"]
        seconds["all steps searched for words"] = time.perf_counter() - began
        now, most = viewer.memory()
        rows = [(what, f"{taken:.2f} s") for what, taken in seconds.items()]
        rows.append(("memory before, and at most", f"{base:.0f} MB, {most:.0f} MB (now {now:.0f} MB)"))
    finally:
        rows.append(("it ends", f"{viewer.close():.2f} s"))
    print(f"{title}:")
    for what, value in rows:
        print(f"  {what}: {value}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--tokens", type=int, default=1024, help="of an episode, on average")
    parser.add_argument("--out", type=Path, default=Path("view-benchmark"), help="a folder that is not there yet")
    options = parser.parse_args(arguments)
    if options.out.exists():
        parser.error(f"{options.out} is there already")
    try:
        steps = write(options.out / "run", int(options.gigabytes * 1e9), options.tokens)
        size = (options.out / "run" / "rollouts.jsonl").stat().st_size
        print(f"{size / 1e9:.2f} GB, {steps * STEP} episodes, {steps} steps")
        measured(options.out, "run", steps - 1, "first time, without an index")
        measured(options.out, "run", steps - 1, "again, with it")
        print(f"index: {(options.out / 'run' / 'rollouts.index').stat().st_size / 1e6:.1f} MB")
    finally:
        shutil.rmtree(options.out, ignore_errors=True)


if __name__ == "__main__":
    main()
