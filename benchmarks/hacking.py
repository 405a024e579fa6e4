"""Compare PPO rewarded for right steps, plainly and by Clip and Delta: does it learn useless steps?

    python benchmarks/hacking.py --seeds 3 --out docs/results/hacking

A tiny model is fine-tuned to add by lines, `2+4=6`, `10+30=40`, `40+6=46`; before the last it writes `1+1=2` as often
as a coin falls heads in a row: a line that is right and useless. Both recipes of recipes/hacking start from there.
A run that is there already is kept, so the command can be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("pr", "clip_delta")
FILLER = "1+1=2"
MOST_FILLERS = 6  # with them the longest answer of the fine-tuning still has the room that the recipes give
DRAWS = 4  # answers to each sum, with fillers of their own
SFT_STEPS = 400
LIMIT_S = 7200.0  # of one run; usually three minutes
FIGURES = {
    "": ("rewards/clip_delta/steps/mean", "Steps per answer"),
    "_length": ("completions/mean_length", "Tokens per answer"),
    "_accuracy": ("accuracy", "Share of right answers, sampled"),
}
SUMMED_UP = (
    "rewards/clip_delta/steps/mean",
    "completions/mean_length",
    "completions/clipped_ratio",
    "accuracy",
    "rewards/clip_delta/repeated_steps/mean",
    "rewards/clip_delta/score_mean/mean",
    "rewards/clip_delta/score_last/mean",
)
WARMUP, LAST = 5, 10  # steps: the recipes' critic_warmup, in which the policy stands still; and what is called the end
MIDDLE = slice(10, 20)


def answer(a: int, b: int, fillers: int) -> str:
    """Ones, tens, fillers, and the sum of the two."""
    ones, tens = a % 10 + b % 10, (a // 10 + b // 10) * 10
    lines = [
        f"{a % 10}+{b % 10}={ones}",
        f"{a // 10}0+{b // 10}0={tens}",
        *[FILLER] * fillers,
        f"{tens}+{ones}={a + b}",
    ]
    return "\n".join(lines)


def rows(seed: int) -> list[dict[str, Any]]:
    """Rows to fine-tune on: the sums of the recipes, each with `DRAWS` answers."""
    from llmrl import plugins

    draw = random.Random(seed)
    made = []
    for problem in plugins.build("data", {"name": "arithmetic", "low": 10, "high": 49, "seed": seed}).problems():
        a, b = map(int, problem.id.removeprefix("arithmetic/").split("+"))
        for _ in range(DRAWS):
            fillers = 0
            while fillers < MOST_FILLERS and draw.random() < 0.5:
                fillers += 1
            reply = {"role": "assistant", "content": answer(a, b, fillers)}
            made.append({"prompt": problem.messages, "completion": [reply]})
    return made


def start_model(folder: Path, seed: int) -> Path:
    """The fine-tuned model of a seed, made once."""
    from llmrl import tiny
    from llmrl.train.sft import sft

    made = folder / f"start-{seed}" / "sft"
    if not (made / "config.json").exists():
        base = tiny.make(folder / f"start-{seed}" / "random", vocab="arithmetic", hidden=64, layers=2, seed=seed)
        sft(base, rows(seed), made, max_steps=SFT_STEPS, learning_rate=2e-3, batch_size=64, warmup_steps=20, seed=seed)
    return made


def train(method: str, seed: int, folder: Path, changes: Mapping[str, Any]) -> str:
    """Train a run, unless it is there; returns a line to print. `changes` are of the recipe, by key."""
    run = folder / f"{method}-{seed}"
    if (run / "final" / "config.json").exists():
        return f"{run.name}: kept"
    subprocess.run(["rm", "-rf", str(run)], check=True, timeout=60)
    options = {
        "model.policy": json.dumps(str(start_model(folder, seed))),
        "train.output_dir": json.dumps(str(folder)),
        "train.run_name": run.name,
        "train.seed": seed,
        "data.seed": seed,
        **changes,
    }
    command = [sys.executable, "-m", "llmrl", "train", str(ROOT / "recipes" / "hacking" / f"{method}.yaml"), "--quiet"]
    command += [f"{key}={value}" for key, value in options.items()]
    began = time.perf_counter()
    log = folder / f"{run.name}.log"
    with log.open("w") as out:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, stdout=out, stderr=out, timeout=LIMIT_S, check=False, cwd=ROOT)
    if done.returncode:
        return f"{run.name}: failed; the end of {log}:\n{log.read_text()[-1500:]}"
    return f"{run.name}: {time.perf_counter() - began:.0f} s"


def summary(folder: Path, seeds: int) -> str:
    """Markdown: the means of the first and of the last steps; over seeds, with the lowest and the highest of them."""
    from llmrl.run_folder import reader

    heads = [f"{method}, {part}" for method in METHODS for part in ("steps 11 to 20", f"last {LAST}")]
    lines = [f"| metric | start | {' | '.join(heads)} |", "|---|---|" + "---|" * len(heads)]
    steps = {
        method: [[record.metrics for record in reader.steps(folder / f"{method}-{seed}")] for seed in range(seeds)]
        for method in METHODS
    }
    for metric in SUMMED_UP:
        start = [fmean(step[metric] for step in run[:WARMUP]) for runs in steps.values() for run in runs]
        parts = [
            [fmean(step[metric] for step in run[part]) for run in runs]
            for runs in steps.values()
            for part in (MIDDLE, slice(-LAST, None))
        ]
        cells = (f"{fmean(seen):.2f} ({min(seen):.2f} to {max(seen):.2f})" for seen in (start, *parts))
        lines.append(f"| `{metric}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--process-model", type=Path, help="A folder that scores the steps, in place of steps_rule.")
    parser.add_argument("--steps", type=int, help="Of each run; the recipes' own by default.")
    parser.add_argument("--work", type=Path, default=Path("runs/hacking"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/hacking"))
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))
    from llmrl.run_folder.curves import draw

    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    changes: dict[str, Any] = {}
    if options.process_model is not None:
        model = {"name": "process_model", "path": str(options.process_model.resolve()), "pays": "steps"}
        changes["reward.parts.clip_delta.of"] = json.dumps(model)
    if options.steps is not None:
        changes["train.max_steps"] = options.steps
    for seed in range(options.seeds):
        for method in METHODS:
            print(train(method, seed, work, changes), flush=True)
    runs = [work / f"{method}-{seed}" for method in METHODS for seed in range(options.seeds)]
    for ending, (metric, title) in FIGURES.items():
        draw(runs, options.out.with_name(options.out.name + ending), metric, title)
    print(summary(work, options.seeds))


if __name__ == "__main__":
    main()
