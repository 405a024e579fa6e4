"""Measure what rehearsal keeps of an old task while a new one is learned, over several seeds, on a CPU.

    python benchmarks/rehearsal.py --seeds 5 --out docs/results/rehearsal.json

The old task is sums, of which the start of `benchmarks/learning.py` knows some; the new one is differences, learned
from 4,800 right answers, read once. A share of each step's rows is rehearsed from a buffer of 200 right answers of the
start to sums: drawn at random, or those that `llmrl data select` keeps. A run that is there already is kept. A picture
beside the figures shows both tasks while the new one is learned.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import over_seeds
import yaml
from over_seeds import ROOT, cell

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

LIMIT_S = 1800.0  # of one command
ROWS, BUFFER, STEPS = 4800, 200, 150
EVERY = 25  # steps between two evaluations
CONDITIONS = {"none": "nothing", "random": "chosen at random", "selected": "chosen by likelihood"}
SUMS = {"name": "arithmetic", "low": 10}
NEW = {**SUMS, "operators": "-"}
DIFFERENCES = Benchmark(
    data={**NEW, "split": "heldout", "count": 500},
    reward={"name": "numeric"},
    sampling=Sampling(temperature=0.0, max_tokens=32),
    about="Held-out differences of two numbers of two digits, 500 problems",
)
TASKS = {"sums": "eval/arithmetic/avg@1", "differences": "eval/rehearsal:DIFFERENCES/avg@1"}
Scores = Mapping[str, Sequence[tuple[int, float]]]
"""Greedy accuracy of each task at the steps where it was evaluated."""


def rows(path: Path, data: Mapping[str, Any]) -> None:
    """Write problems with their answers as rows of stored answers, each with the reward 1."""
    from llmrl import plugins

    problems = plugins.build("data", {**data, "count": ROWS}).problems()
    lines = [{"prompt": p.messages, "completion": p.answer, "reward": 1.0} for p in problems]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def buffers(work: Path, seed: int, start: Path) -> dict[str, Path]:
    """Right answers of the start to sums: a random choice, and one by likelihood; no two of one sum."""
    from offline_methods import answers

    from llmrl.run_folder import reader

    log = answers(work, seed, start)
    right = {}
    for record in reader.episodes(log.parent):
        episode = record.trajectory
        if episode.score is not None and episode.score.correct:
            prompt = [dict(message) for message in episode.problem.messages]
            right[episode.group] = {"prompt": prompt, "completion": episode.text, "reward": 1.0}
    lines = [json.dumps(row) + "\n" for row in right.values()]
    known, drawn, selected = (work / f"{name}-{seed}.jsonl" for name in ("known", "random", "selected"))
    known.write_text("".join(lines), encoding="utf-8")
    drawn.write_text("".join(random.Random(seed).sample(lines, BUFFER)), encoding="utf-8")
    if not selected.exists():
        recipe = str(ROOT / "recipes" / "tiny" / "bc.yaml")
        options = [f"model.policy={start}", f"source.path={known}", "engine.name=hf"]
        command = ["data", "select", recipe, "--out", str(selected), "--keep", str(BUFFER), "--per-problem", "1"]
        called([*command, *options], selected.with_suffix(".log"))
    return {"random": drawn, "selected": selected}


def trained(work: Path, condition: str, seed: int, start: Path, buffer: Path | None) -> Path:
    """The folder of a run on differences, trained unless it is there already."""
    run = work / f"{condition}-{seed}"
    if (run / "final" / "config.json").exists():
        return run
    subprocess.run(["rm", "-rf", str(run)], check=True, timeout=60)
    source: dict[str, Any] = {"name": "offline", "path": str(work / "differences.jsonl")}
    if buffer is not None:
        source = {"name": "rehearsal", "of": source, "replay": {"name": "offline", "path": str(buffer)}, "share": 0.15}
    recipe = {
        "model": {"policy": str(start)},
        "algorithm": {"name": "bc", "weights": "none"},
        "source": source,
        "engine": {"name": "hf"},
        "rollout": {"prompts_per_step": 32, "max_prompt_length": 64, "max_completion_length": 8},
        "train": {"max_steps": STEPS, "learning_rate": 1e-3, "lr_scheduler_type": "linear", "seed": seed},
        "eval": {"every": EVERY, "on_start": True, "benchmarks": ["arithmetic", "rehearsal:DIFFERENCES"]},
    }
    recipe["train"] |= {"output_dir": str(work), "run_name": run.name, "save_steps": 0, "report_to": "none"}
    file = work / f"{run.name}.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    called(["train", str(file), "--quiet"], work / f"{run.name}.log")
    return run


def called(arguments: Sequence[str], log: Path) -> None:
    """Run `llmrl`; a failure shows the end of its log."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    with log.open("w") as out:
        command = [sys.executable, "-m", "llmrl", *arguments]
        done = subprocess.run(command, env=environment, stdout=out, stderr=out, timeout=LIMIT_S, check=False, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{log}: exit code {done.returncode}\n{log.read_text()[-1500:]}")


def scores(run: Path) -> Scores:
    """Curves of a run that has ended."""
    from llmrl.run_folder.curves import read

    return {task: read(run, metric)[0].points for task, metric in TASKS.items()}


def measure(work: Path, seed: int) -> dict[str, Scores]:
    """Scores of each condition from one start."""
    from learning import start_model

    rows(work / "differences.jsonl", NEW)
    start = start_model(work, seed)
    buffer = buffers(work, seed, start)
    return {name: scores(trained(work, name, seed, start, buffer.get(name))) for name in CONDITIONS}


def table(results: Sequence[Mapping[str, Scores]]) -> str:
    """A line for each condition: means over seeds with their 95 % intervals."""
    columns = (("sums", 0), ("sums", -1), ("differences", -1))
    lines = ["| rehearsed | sums before | sums after | differences after |", "|---|---|---|---|"]
    for condition, rehearsed in CONDITIONS.items():
        cells = [cell([row[condition][task][when][1] for row in results]) for task, when in columns]
        lines.append(f"| {rehearsed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(results: Sequence[Mapping[str, Scores]], path: Path) -> None:
    """Draw accuracy of each task by step: a thin line for each seed, and their mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    for panel, task in zip(figure.subplots(1, len(TASKS)), TASKS, strict=True):
        for number, (condition, rehearsed) in enumerate(CONDITIONS.items()):
            curves = [row[condition][task] for row in results]
            for curve in curves:
                panel.plot(*zip(*curve, strict=True), color=f"C{number}", alpha=0.25, linewidth=0.8)
            steps = [step for step, _ in curves[0]]
            means = [fmean(value for _, value in points) for points in zip(*curves, strict=True)]
            panel.plot(steps, means, color=f"C{number}", label=rehearsed)
        panel.set(title=task, xlabel="step", ylabel="greedy accuracy")
        panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def keep(results: Sequence[Mapping[str, Scores]], out: Path) -> None:
    """Write the figures of all seeds so far, and the picture."""
    over_seeds.keep(results, out)
    draw(results, out.with_suffix(".png"))


if __name__ == "__main__":
    over_seeds.run(__doc__, "rehearsal", measure, table, keep=keep)
