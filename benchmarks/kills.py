"""Kill a tiny run at random moments, resume it each time, and compare its bits with those of a run that was left alone.

    python benchmarks/kills.py --kills 20 --seed 0

SIGKILL and SIGTERM take turns at random. A SIGKILL goes back to the last checkpoint; a SIGTERM ends with 143.
The table has a line a kill: the signal, how long the process had lived, exit code, seconds from signal to end, steps in
the logs, and steps in the newest checkpoint. Exit code 1 where weights, metrics (but for times) or episodes differ.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

RECIPE = """
model: {{policy: {model}}}
data: {{name: arithmetic, high: 9}}
reward: {{name: format, pattern: '.*[a-z].*'}}
algorithm: {{name: grpo, beta: 0.01, minibatches: 2}}
engine: {{name: hf}}
rollout: {{num_generations: 4, prompts_per_step: 4, max_completion_length: 6, max_prompt_length: 32}}
eval: {{every: 15, benchmarks: [arithmetic], limit: 20}}
train: {{max_steps: {steps}, learning_rate: 1e-3, lr_scheduler_type: cosine, save_steps: 5, seed: 5,
         normalize_rewards: true, output_dir: {out}, report_to: none}}
"""
TIMED = ("time/", "reward_latency/", "perf/tokens_per_sec", "step_time", "sync/seconds")


def start(recipe: Path, resume: bool, log: Path) -> subprocess.Popen[bytes]:
    """Start the run, in a process group of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # bits must not depend on how busy the machine is
    command = [sys.executable, "-m", "llmrl", "train", str(recipe), "--quiet", *(["--resume"] if resume else [])]
    with log.open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The metrics of each step, without what a clock decides."""
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return [{key: value for key, value in step.items() if not key.startswith(TIMED)} for step in whole]


def written(folder: Path) -> float:
    """Time at which the run opened its manifest, by the file system."""
    path = folder / "manifest.json"
    return path.stat().st_mtime if path.exists() else 0.0


def saved(folder: Path) -> int:
    """Steps in the newest checkpoint."""
    return max((int(path.name[5:]) for path in (folder / "checkpoints").glob("step-??????")), default=0)


def killed(recipe: Path, folder: Path, kills: int, random: Random, log: Path) -> bool:
    """Run with kills; False where a SIGTERM did not end with 143."""
    print(f"{'kill':>4} {'signal':8} {'alive s':>8} {'code':>5} {'to end s':>8} {'logged':>6} {'saved':>6}", flush=True)
    good = True
    for kill in range(1, kills + 1):
        process, began = start(recipe, kill > 1, log), time.monotonic()
        if random.random() < 0.2:  # while it starts
            time.sleep(random.random() * 10)
        else:
            before = written(folder)
            while process.poll() is None and written(folder) == before:
                time.sleep(0.05)
            time.sleep(random.random() * 2)
        number = random.choice((signal.SIGKILL, signal.SIGTERM))
        if process.poll() is not None:
            print("the run ended before it could be killed; take more steps", flush=True)
            return good and process.returncode == 0
        alive, asked = time.monotonic() - began, time.monotonic()
        (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)
        code = process.wait(180)
        ended = time.monotonic() - asked
        good = good and code == (143 if number == signal.SIGTERM else -signal.SIGKILL)
        steps = len(metrics(folder))
        print(f"{kill:4} {number.name:8} {alive:8.1f} {code:5} {ended:8.2f} {steps:6} {saved(folder):6}", flush=True)
    return good and start(recipe, True, log).wait(1800) == 0


def main() -> int:
    """Run both, print the table and what differs; exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from safetensors.torch import load_file

    from llmrl import tiny

    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        model = tiny.make(root / "tiny", hidden=64, layers=2)
        folders = {name: root / name for name in ("whole", "killed")}
        for name in folders:
            (root / f"{name}.yaml").write_text(RECIPE.format(model=model, out=root, steps=options.steps))
        whole = start(root / "whole.yaml", False, root / "whole.log")
        good = killed(root / "killed.yaml", folders["killed"], options.kills, Random(options.seed), root / "killed.log")
        if whole.wait(1800) or not good:
            print((root / "killed.log").read_text()[-3000:])
        left, right = (load_file(folder / "final" / "model.safetensors") for folder in folders.values())
        same = {
            "weights": left.keys() == right.keys() and all(bool((left[key] == right[key]).all()) for key in left),
            "metrics": metrics(folders["whole"]) == metrics(folders["killed"]),
            "episodes": len({(folder / "rollouts.jsonl").read_bytes() for folder in folders.values()}) == 1,
        }
        print("  ".join(f"{name}: {'equal' if equal else 'DIFFERENT'}" for name, equal in same.items()))
        return 0 if good and all(same.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
