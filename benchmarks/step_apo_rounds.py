"""Measure Step-APO round by round on sums that are added by lines, over several seeds, on a CPU.

    python benchmarks/step_apo_rounds.py --seeds 5 --out docs/results/step_apo_rounds.json

The start is the policy of `benchmarks/search.py`, which errs in three to nine of ten sums, by the seed. A
round searches training sums with the policy at hand, fine-tunes the start on the right answers, and goes on with pairs
of steps; the second search has a process model that learned from the first trees. Everything is one pipeline a seed; a
finished stage is kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import over_seeds
import yaml
from over_seeds import ROOT, cell

MODELS = {"start": "START", "sft-1": "${sft-1.final}", "apo-1": "${apo-1.final}"}
MODELS |= {"sft-2": "${sft-2.final}", "apo-2": "${apo-2.final}"}
BEFORE = {"start": "start", "sft-1": "start", "apo-1": "sft-1", "sft-2": "start", "apo-2": "sft-2"}
"""The model from which each was trained; `round_of` says so."""
PROBLEMS = 200  # searched in a round
LIMIT_S = 7200.0  # of a pipeline


def round_of(number: int, start: str, policy: str, seed: int, judge: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The stages of a round: a search, right answers from the start, pairs of steps."""
    search = {
        "model": policy,
        "data": {"name": "arithmetic", "low": 10, "high": 49, "seed": number},
        "search": {"name": "plan_mcts", "iterations": 16, "max_depth": 8},
        "reward": "numeric",
        "engine": {"name": "hf"},
        "sampling": {"max_tokens": 48},
        "limit": PROBLEMS,
        "seed": seed,
        **judge,
    }
    sft = {"model": start, "data": f"${{search-{number}.sft}}", "max_steps": 40, "learning_rate": 3e-4, "seed": seed}
    apo = {
        "model": {"policy": f"${{sft-{number}.final}}"},
        "algorithm": {"name": "step_apo"},
        "source": {"name": "offline", "path": f"${{search-{number}.preference}}"},
        "rollout": {"prompts_per_step": 32, "max_prompt_length": 96, "max_completion_length": 48},
        "train": {"max_steps": 40, "learning_rate": 1e-5, "report_to": "none", "save_steps": 0, "seed": seed},
    }
    stages = [("search", {"search": search}), ("sft", {"sft": {**sft, "batch_size": 32}}), ("apo", {"train": apo})]
    return [{"name": f"{name}-{number}", **stage} for name, stage in stages]


def pipeline(start: str, work: Path, seed: int) -> dict[str, Any]:
    """Two rounds, a model of values between them, and an evaluation of every model."""
    values = {
        "kind": "process",
        "model": {"model_name_or_path": start},
        "data": {"train": "${search-1.stepwise}"},
        "input": {"max_length": 96},
        "train": {"max_steps": 200, "learning_rate": 1e-3, "per_device_train_batch_size": 32, "seed": seed},
    }
    judge = {"judge": {"name": "process_model", "path": "${values.final}", "aggregation": "last"}}
    stages = round_of(1, start, start, seed, {})
    stages += [{"name": "values", "reward_model": values}, *round_of(2, start, "${apo-1.final}", seed, judge)]
    setup = {"engine": {"name": "hf"}}
    for name, model in MODELS.items():
        evaluation = {"model": model.replace("START", start), "benchmarks": ["search:SUMS"], "setup": setup}
        plan = {"limit": PROBLEMS, "samples": 4, "seed": 0}
        stages.append({"name": f"eval-{name}", "eval": {**evaluation, "plan": plan}})
    return {"output_dir": str(work), "run_name": f"rounds-{seed}", "stages": stages}


def measure(work: Path, seed: int) -> dict[str, float]:
    """Accuracy of each model of a seed."""
    from search import policy

    recipe = work / f"rounds-{seed}.yaml"
    recipe.write_text(yaml.safe_dump(pipeline(str(policy(work, seed)), work, seed)), encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}"}
    command = [sys.executable, "-m", "llmrl", "train", str(recipe), "--quiet"]
    subprocess.run(command, env=environment, timeout=LIMIT_S, check=True, cwd=ROOT)
    found = {}
    for name in MODELS:
        results = json.loads((work / f"rounds-{seed}" / f"eval-{name}" / "results.json").read_text(encoding="utf-8"))
        found[name] = next(iter(results.values()))["metrics"]["avg@4"]["value"]
    return found


def table(rows: Sequence[Mapping[str, float]]) -> str:
    """A line for each model: means over seeds with their 95 % intervals, and what its own stage changed."""
    lines = ["| model | accuracy | gain over the model before its stage | seeds |", "|---|---|---|---|"]
    for name, before in BEFORE.items():
        gains = [row[name] - row[before] for row in rows]
        gained = cell(gains, "+.3f") if before != name else ""
        seeds = ", ".join(f"{row[name]:.3f}" for row in rows)
        lines.append(f"| {name} | {cell([row[name] for row in rows])} | {gained} | {seeds} |")
    return "\n".join(lines)


if __name__ == "__main__":
    over_seeds.run(__doc__, "step_apo_rounds", measure, table)
