"""Measure robustness against texts around a problem: QARL, both forms, against plain training of equal length.

    python benchmarks/qarl.py --seeds 5 --out docs/results/qarl.json

The start of `benchmarks/learning.py` has seen 50 batches of sums with texts around them, so that it heeds some of them.
Then it is trained by GRPO for 40 steps of 256 answers: on plain sums, on all texts alike, on texts that the curriculum
`qarl` chooses, or in four rounds against a writer, which learns for five steps against the solver of the round before
and then speaks at an ever lower temperature. Judged greedily on held-out sums, with these texts and with others.
Everything is one pipeline a seed; a finished stage is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 3600.0  # of a pipeline
STEPS, ROUNDS, WRITER_STEPS = 40, 4, 5
TEMPERATURES = [2.0 * 0.7**number for number in range(ROUNDS)]  # of the writer, round by round
TEXTS = {
    "none": "{prompt}",
    "before": "{number} {prompt}",
    "line": "{number}\n{prompt}",
    "after": "{prompt} {number}",
    "claim": "{prompt}{number}?",
    "equation": "{number}={prompt}",
}
OTHERS = {"both": "{number} {prompt} {number}", "hash": "#{number} {prompt}", "sum": "{number}+{number} {prompt}"}
SUMS: Mapping[str, Any] = {"name": "arithmetic", "low": 10}
PERTURBED = {"name": "perturbed", "of": SUMS, "templates": TEXTS}
GAME = {"name": "perturbation", "reward": "numeric", "request": "{prompt}", "template": "{text} {prompt}"}
GAME |= {"allowed": "[0-9 =?]{1,7}"}
HELDOUT = {**SUMS, "split": "heldout", "count": 200}
ATTACKS = Benchmark(
    data={"name": "perturbed", "of": HELDOUT, "templates": TEXTS | OTHERS},
    reward={"name": "numeric"},
    sampling=Sampling(temperature=0.0, max_tokens=8),
    by=("perturbation",),
    about="200 held-out sums of two numbers of two digits, with and without texts around them",
)
MODELS = {"start": "start", "plain": "plain", "all alike": "alike", "qarl": "qarl", "writer": f"solver-{ROUNDS}"}


def run(model: str, seed: int, steps: int, **sections: Any) -> dict[str, Any]:
    """A run of GRPO on sums, of 32 problems a step with 8 answers each."""
    options = {"max_steps": steps, "learning_rate": 3e-4, "lr_scheduler_type": "constant", "save_steps": 0}
    rollout = {"num_generations": 8, "prompts_per_step": 32, "max_prompt_length": 64, "max_completion_length": 8}
    return {
        "model": {"policy": f"${{{model}.final}}"},
        "data": SUMS,
        "reward": {"name": "numeric"},
        "algorithm": {"name": "grpo", "loss_type": "grpo"},
        "engine": {"name": "hf"},
        "train": {**options, "report_to": "none", "seed": seed},
        **sections,
        "rollout": {**rollout, **sections.get("rollout", {})},
    }


def game(learns: str, opponents: Mapping[str, Any], **rollout: Any) -> dict[str, Any]:
    """Sections of a run in which one agent learns, and the other is a model that stands still."""
    limits = {"max_turns": 2, "max_reply_length": 32, "opponents": opponents, **rollout}
    return {"env": {**GAME, "player": learns}, "reward": {"name": "environment"}, "rollout": limits}


def rounds(seed: int) -> list[dict[str, Any]]:
    """A writer and a solver that learn in turn, each against the newest of the other."""
    stages, writer, solver = [], "start", "start"
    for number, temperature in enumerate(TEMPERATURES, start=1):
        against = {"solver": {"model": f"${{{solver}.final}}"}}
        stages.append({"name": f"writer-{number}", "train": run(writer, seed, WRITER_STEPS, **game("writer", against))})
        writer = f"writer-{number}"
        against = {"writer": {"model": f"${{{writer}.final}}", "temperature": temperature}}
        steps = STEPS // ROUNDS
        stages.append({"name": f"solver-{number}", "train": run(solver, seed, steps, **game("solver", against))})
        solver = f"solver-{number}"
    return stages


def checks(seed: int) -> list[dict[str, Any]]:
    """Evaluations of every model on fixed texts, and its sampled answers against the last writer."""
    plan, setup = {"seed": 0}, {"engine": {"name": "hf"}}
    last = {"writer": {"model": f"${{writer-{ROUNDS}.final}}", "temperature": 1.0}}
    stages: list[dict[str, Any]] = []
    for model in MODELS.values():
        fixed = {"model": f"${{{model}.final}}", "benchmarks": ["qarl:ATTACKS"], "plan": plan, "setup": setup}
        met = run(model, seed, 1, data=HELDOUT, **game("solver", last, num_generations=2, prompts_per_step=200))
        stages += [{"name": f"eval-{model}", "eval": fixed}, {"name": f"met-{model}", "collect": without(met)}]
    return stages


def without(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without what learns, for a stage that collects."""
    return {name: section for name, section in recipe.items() if name != "algorithm"}


def pipeline(start: Path, work: Path, seed: int) -> dict[str, Any]:
    """All training runs of a seed, and all evaluations."""
    heeding = {"max_steps": 50, "learning_rate": 1e-3, "batch_size": 64, "warmup_steps": 10, "seed": seed}
    stages = [{"name": "start", "sft": {"model": str(start), "data": PERTURBED, **heeding}}]
    runs = {"plain": {}, "alike": {"data": PERTURBED}}
    runs |= {"qarl": {"data": PERTURBED, "source": {"name": "online", "curriculum": {"name": "qarl"}}}}
    stages += [{"name": name, "train": run("start", seed, STEPS, **changes)} for name, changes in runs.items()]
    stages += rounds(seed) + checks(seed)
    return {"output_dir": str(work), "run_name": f"seed-{seed}", "stages": stages}


def measure(work: Path, seed: int) -> dict[str, dict[str, float]]:
    """Accuracy of each model of a seed under each text, and against the writer."""
    from learning import start_model

    from llmrl.run_folder import reader

    recipe = work / f"seed-{seed}.yaml"
    recipe.write_text(yaml.safe_dump(pipeline(start_model(work, seed), work, seed)), encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}"}
    command = [sys.executable, "-m", "llmrl", "train", str(recipe), "--quiet"]
    subprocess.run(command, env=environment, timeout=LIMIT_S, check=True, cwd=ROOT)
    found = {}
    for name, model in MODELS.items():
        folder = work / f"seed-{seed}"
        (result,) = json.loads((folder / f"eval-{model}" / "results.json").read_text(encoding="utf-8")).values()
        found[name] = {text: part["avg@1"]["value"] for text, part in result["by"]["perturbation"].items()}
        played = [record.trajectory for record in reader.episodes(folder / f"met-{model}")]
        found[name]["writer"] = fmean(float(episode.verdict == "correct") for episode in played)
        found[name]["valid"] = fmean(episode.metrics["valid"] for episode in played)
    return found


def table(rows: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    """A line for each model: means over seeds with their 95 % intervals."""
    from llmrl.ops.aggregate import interval, mean

    columns = {
        "no text": lambda score: score["none"],
        "texts trained on": lambda score: fmean(score[text] for text in TEXTS if text != "none"),
        "worst of them": lambda score: min(score[text] for text in TEXTS),
        "other texts": lambda score: fmean(score[text] for text in OTHERS),
        "the last writer": lambda score: score["writer"],
    }
    lines = [f"| trained on | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in MODELS:
        cells = []
        for column in columns.values():
            values = [column(row[name]) for row in rows]
            low, high = interval([[value] for value in values], mean) if len(values) > 1 else (values[0], values[0])
            cells.append(f"{fmean(values):.3f} ({low:.3f} to {high:.3f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("runs/qarl"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/qarl.json"))
    options = parser.parse_args(arguments)
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(options.seeds):
        rows.append(measure(work, seed))
        print(json.dumps(rows[-1]), flush=True)
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
