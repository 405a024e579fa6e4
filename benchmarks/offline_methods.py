"""Compare the offline methods with supervised fine-tuning on the same stored answers, over several seeds.

    python benchmarks/offline_methods.py --seeds 5 --out docs/results/offline

Each seed has its own start, the model of `benchmarks/learning.py`, and its own data: 8 answers of that model to each of
1,280 sums, scored by rule. Every method reads them once, in 40 steps. With `corrupted`, half of the answers are
replaced by a number drawn at random, scored by the same rule. A run that is there already is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
METRIC = "eval/arithmetic/avg@1"
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # a recipe of recipes/tiny, and the options that differ
    "sft": ("bc", {"algorithm.weights": "none"}),
    "filtered_bc": ("bc", {}),
    "a_lol": ("a_lol", {}),
    "a_lol_seq": ("a_lol", {"algorithm.variant": "a_lol_seq"}),
    "a_lol_ref_free": ("a_lol", {"algorithm.variant": "a_lol_ref_free"}),
    "a_lol_kl": ("a_lol", {"algorithm.variant": "a_lol_kl"}),
    "r_lol": ("a_lol", {"algorithm.variant": "r_lol", "algorithm.priority": "none"}),
    "gold": ("a_lol", {"algorithm.variant": "gold", "algorithm.priority": "none"}),
    "dpo": ("dpo", {}),
    "ipo": ("dpo", {"algorithm.loss_type": "ipo"}),
    "simpo": ("dpo", {"algorithm.loss_type": "simpo", "algorithm.beta": 2.0}),
    "orpo": ("dpo", {"algorithm.loss_type": "orpo"}),
    "cpl": ("dpo", {"algorithm.loss_type": "cpl"}),
    "pro": ("pro", {}),
    "kto": ("kto", {}),
    "kto_unbalanced": ("kto", {"algorithm.desirable_weight": 1.0}),
    "returns": ("returns", {}),
    "ilql": ("ilql", {}),
    "xql": ("ilql", {"algorithm.value_loss": "gumbel"}),
    "fdvl": ("ilql", {"algorithm.value_loss": "chi2"}),
    "bcoder_values": ("bcoder_values", {}),
    "bcoder": ("bcoder", {"critic.model": "bcoder_values-{seed}/final/critic"}),
}
FIRST = ("bcoder_values",)  # a stage before a method, in which the policy stands still: not in the table
MODEL = "critic.model"  # of such a stage of the seed
CORRUPTED = ("sft", "filtered_bc", "a_lol", "a_lol_ref_free", "a_lol_kl", "dpo", "kto")
COLLECT_STEPS = 40
LIMIT_S = 1800.0  # of one run


def answers(work: Path, seed: int, start: Path) -> Path:
    """The log of the start's own answers, made once by a pipeline of one stage."""
    run = {
        "model": {"policy": str(start)},
        "data": {"name": "arithmetic", "low": 10, "seed": seed},
        "reward": {"name": "numeric"},
        "engine": {"name": "hf"},
        "rollout": {"num_generations": 8, "prompts_per_step": 32, "max_prompt_length": 64, "max_completion_length": 8},
        "train": {"max_steps": COLLECT_STEPS, "report_to": "none", "seed": seed},
    }
    recipe = work / f"collect-{seed}.yaml"
    stages = {"output_dir": str(work), "run_name": f"data-{seed}", "stages": [{"name": "collect", "collect": run}]}
    recipe.write_text(yaml.safe_dump(stages), encoding="utf-8")
    command([str(recipe)], work / f"collect-{seed}.log")
    return work / f"data-{seed}" / "collect" / "rollouts.jsonl"


def groups(log: Path, seed: int, corrupted: bool) -> Path:
    """A file of ranked answers: a row for each sum, the right ones first."""
    from llmrl.run_folder import reader

    out = log.parents[1] / ("corrupted.jsonl" if corrupted else "plain.jsonl")
    draw, rows = random.Random(f"{seed}/corrupted"), defaultdict(list)
    prompts, correct = {}, {}
    for record in reader.episodes(log.parent):
        episode = record.trajectory
        prompts[episode.group], correct[episode.group] = episode.problem.messages, episode.problem.answer
        text = episode.turns[-1].text
        right = episode.score is not None and episode.score.correct is True
        if corrupted and draw.random() < 0.5:
            text = str(draw.randint(20, 198))
            right = text == correct[episode.group]
        rows[episode.group].append((text, float(right)))
    with out.open("w", encoding="utf-8") as file:
        for group, pairs in rows.items():
            ranked = sorted(((text, reward) for text, reward in pairs if text.strip()), key=lambda pair: -pair[1])
            texts, rewards = [text for text, _ in ranked], [reward for _, reward in ranked]
            if len(ranked) > 1:
                file.write(json.dumps({"prompt": prompts[group], "responses": texts, "rewards": rewards}) + "\n")
    return out


def train(name: str, data: Path, start: Path, seed: int, work: Path) -> str:
    """Train a run, unless it is there; returns a line to print."""
    run = work / f"{name}-{seed}"
    if (run / "final" / "config.json").exists():
        return f"{run.name}: kept"
    subprocess.run(["rm", "-rf", str(run)], check=True, timeout=60)
    stem, changes = METHODS[name.removesuffix("_corrupted")]
    options = {"model.policy": str(start), "source.path": str(data), "engine.name": "hf", "train.output_dir": str(work)}
    changes = {key: str(work / value.format(seed=seed)) if key == MODEL else value for key, value in changes.items()}
    options |= {"train.run_name": run.name, "train.seed": seed, **changes}
    arguments = [str(ROOT / "recipes" / "tiny" / f"{stem}.yaml"), "--quiet"]
    return run.name + command(
        [*arguments, *(f"{key}={value}" for key, value in options.items())], run.with_suffix(".log")
    )


def command(arguments: Sequence[str], log: Path) -> str:
    """Run `llmrl train`; `: ok`, or the end of its log."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    full = [sys.executable, "-m", "llmrl", "train", *arguments]
    with log.open("w") as out:
        done = subprocess.run(full, env=environment, stdout=out, stderr=out, timeout=LIMIT_S, check=False, cwd=ROOT)
    return f": failed; the end of {log}:\n{log.read_text()[-1500:]}" if done.returncode else ": ok"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, of one thread each")
    parser.add_argument("--work", type=Path, default=Path("runs/offline_methods"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/offline"))
    options = parser.parse_args(arguments)
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    from learning import start_model

    from llmrl.run_folder.curves import draw

    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    wanted = []
    for seed in range(options.seeds):
        start = start_model(work, seed)
        log = answers(work, seed, start)
        plain, corrupted = (groups(log, seed, bad) for bad in (False, True))
        print(f"start-{seed}, data-{seed}: ready", flush=True)
        wanted += [(name, plain, start, seed, work) for name in options.methods]
        wanted += [(f"{name}_corrupted", corrupted, start, seed, work) for name in options.methods if name in CORRUPTED]
    before, after = ([run for run in wanted if (run[0] in FIRST) is first] for first in (True, False))
    with ThreadPoolExecutor(options.jobs) as pool:
        for runs_of_a_kind in (before, after):
            for line in pool.map(lambda run: train(*run), runs_of_a_kind):
                print(line, flush=True)
    names = dict.fromkeys(name for name, *_ in wanted if name not in FIRST)
    runs = [work / f"{name}-{seed}" for name in names for seed in range(options.seeds)]
    draw([run for run in runs if (run / "final").exists()], options.out, METRIC, "Held-out accuracy, greedy, 500 sums")
    print(f"{options.out}.png  {options.out}.md")


if __name__ == "__main__":
    main()
