"""Train the recipes of recipes/tiny that generate answers over several seeds, and draw what they learned.

    python benchmarks/learning.py --seeds 5 --out docs/results/learning

Each seed has its own start: a model that `llmrl demo`'s fine-tuning brings to 40 % of sums right. All methods of a seed
begin with the same weights and see the same problems. A run that is there already is kept, so the command can be
stopped and started again; `llmrl figures docs/results/learning.json --out docs/results/learning` only redraws.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
METRIC = "eval/arithmetic/avg@1"
LIMIT_S = 1800.0  # of one run


def start_model(folder: Path, seed: int) -> Path:
    """The fine-tuned model of a seed, made once."""
    from llmrl import tiny
    from llmrl.cli.demo import TARGET, fine_tune

    made = folder / f"start-{seed}" / "sft"
    if not (made / "config.json").exists():
        base = tiny.make(folder / f"start-{seed}" / "random", vocab="arithmetic", seed=seed)
        fine_tune(base, made, seed, True, TARGET)
    return made


def train(method: str, seed: int, folder: Path, threads: int) -> str:
    """Train a run, unless it is there; returns a line to print."""
    run = folder / f"{method}-{seed}"
    if (run / "final" / "config.json").exists():
        return f"{run.name}: kept"
    subprocess.run(["rm", "-rf", str(run)], check=True, timeout=60)
    options = {
        "model.policy": start_model(folder, seed),
        "train.output_dir": folder,
        "train.run_name": run.name,
        "train.seed": seed,
        "data.seed": seed,
    }
    command = [sys.executable, "-m", "llmrl", "train", str(ROOT / "recipes" / "tiny" / f"{method}.yaml"), "--quiet"]
    command += [
        f"{key}={json.dumps(str(value)) if isinstance(value, Path) else value}" for key, value in options.items()
    ]
    began = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    log = folder / f"{run.name}.log"
    with log.open("w") as out:
        done = subprocess.run(command, env=environment, stdout=out, stderr=out, timeout=LIMIT_S, check=False, cwd=ROOT)
    if done.returncode:
        return f"{run.name}: failed; the end of {log}:\n{log.read_text()[-1500:]}"
    return f"{run.name}: {time.perf_counter() - began:.0f} s"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", help="names in recipes/tiny; by default all that play")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each run; bits must not depend on a busy machine")
    parser.add_argument("--work", type=Path, default=Path("runs/learning"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/learning"))
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))
    from llmrl.run_folder.curves import draw

    recipes = sorted((ROOT / "recipes" / "tiny").glob("*.yaml"))
    methods = options.methods or [path.stem for path in recipes if "\ndata: " in path.read_text(encoding="utf-8")]
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        start_model(work, seed)
        print(f"start-{seed}: ready", flush=True)
    wanted = [(method, seed) for seed in range(options.seeds) for method in methods]
    with ThreadPoolExecutor(options.jobs) as pool:
        for line in pool.map(lambda one: train(*one, work, options.threads), wanted):
            print(line, flush=True)
    ready = [work / f"{method}-{seed}" for method in methods for seed in range(options.seeds)]
    ready = [run for run in ready if (run / "final" / "config.json").exists()]
    draw(ready, options.out, METRIC, "Held-out accuracy, greedy, 500 sums")
    print(f"{options.out}.png  {options.out}.md")


if __name__ == "__main__":
    main()
