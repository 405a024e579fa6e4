"""ArCHer against GRPO over turns and filtered imitation on Wordle, on a CPU: `python benchmarks/archer.py`.

A model of 2 layers and 128 dimensions imitates a player of whose moves half are random; then each method learns from
the same number of episodes. `--methods`, `--seeds`, `--steps` choose; `--json FILE` keeps the curves: the mean return
of each step's episodes, sampled at temperature 1. docs/algorithms/archer.md has the figures of benchmarks/archer.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from llmrl import tiny
from llmrl.data.games import Games
from llmrl.datagen.demonstrations import Demonstrations, write
from llmrl.envs.wordle import Wordle
from llmrl.recipe import parse
from llmrl.train.loop import train
from llmrl.train.run import Run

ENV = {"name": "wordle", "vocabulary": 20, "instructions": False}
GAME = Wordle(vocabulary=20, instructions=False)
EPISODES = 40
"""Of a step: 4 from each of 10 hidden words."""
REPLAY = {"name": "replay", "turns": 320, "proposals": 128}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "archer": {
        "algorithm": {"name": "archer", "critic_warmup": 8, "critic_steps": 12, "actor_steps": 2},
        "source": REPLAY,
        "critic": {"learning_rate": 1e-3},
    },
    "grpo": {"algorithm": {"name": "grpo", "credit_level": "turn", "turn_discount": 0.95}},
    "filtered_bc": {
        "algorithm": {"name": "bc", "minibatches": 2},
        "source": {**REPLAY, "quantile": 0.9, "proposals": 0, "fresh": False},
    },
}


def primed(seed: int, folder: Path) -> Path:
    """Train a model on episodes of which half the moves are random; return its folder."""
    rows = folder / "rows.jsonl"
    write(Demonstrations(data=Games(env=GAME, split="all"), random_share=0.5, episodes=400, seed=seed), rows)
    settings = {
        "algorithm": {"name": "bc"},
        "source": {"name": "offline", "path": str(rows)},
        "rollout": {"prompts_per_step": 40},
    }
    return learned(
        settings, tiny.make(folder / "model", hidden=128, layers=2, seed=seed), seed, folder, "primed", 450, 3e-3
    )


def learned(
    settings: Mapping[str, Any], model: Path, seed: int, folder: Path, name: str, steps: int, rate: float
) -> Path:
    """Train a model; return the folder of the run."""
    recipe = parse(
        {
            "model": {"policy": str(model)},
            "env": ENV,
            "data": {"name": "games", "env": ENV, "split": "all"},
            "reward": {"name": "environment"},
            "engine": {"name": "hf"},
            "rollout": {
                "prompts_per_step": 10,
                "num_generations": EPISODES // 10,
                "max_turns": 6,
                "max_prompt_length": 64,
                "max_completion_length": 24,
                "max_reply_length": 48,
                **settings.get("rollout", {}),
            },
            "train": {
                "max_steps": steps,
                "learning_rate": rate,
                "lr_scheduler_type": "linear",
                "output_dir": str(folder),
                "run_name": name,
                "report_to": "none",
                "save_steps": 0,
                "seed": seed,
            },
            **{name: section for name, section in settings.items() if name != "rollout"},
        }
    )
    with Run(recipe) as run:
        train(run)
        return run.folder


def measured(method: str, model: Path, seed: int, folder: Path, steps: int) -> dict[str, Any]:
    """The curve of a method from a primed model."""
    began = time.process_time()
    out = learned(METHODS[method], model, seed, folder, method, steps, 3e-4)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = ("reward", "env/moves", "accuracy", "entropy", "overestimate/mean", "explained_variance", "advantages/mean")
    kept += ("status/max_tokens_frac",)
    curves = {name: [line.get(name) for line in lines] for name in kept if any(name in line for line in lines)}
    turns = [line["turns/mean"] for line in lines if "turns/mean" in line]
    return {
        "method": method,
        "seed": seed,
        "episodes_per_step": EPISODES,
        "environment_steps": EPISODES * sum(turns),
        "first": fmean(curves["reward"][:5]),
        "last": fmean(curves["reward"][-5:]),
        "seconds": time.process_time() - began,
        **curves,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as name:
            model = primed(seed, Path(name)) / "final"
            for method in options.methods:
                results.append(measured(method, model, seed, Path(name), options.steps))
                print(
                    "{method} seed {seed}: {first:.2f} to {last:.2f}, {seconds:.0f} s".format(**results[-1]), flush=True
                )
                if options.json:
                    options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
