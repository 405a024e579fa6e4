"""Self-play on Nim by GRPO over turns, on a CPU: `python benchmarks/self_play.py`.

A model of 2 layers and 64 dimensions imitates random moves, so that it knows the form; then both sides of each game
are its own (`--mode self`), the second is its frozen copy (`--mode frozen`), or the second has parameters of its own
and learns, too (`--mode own`). Before and after, it plays greedily from all 19 starts against the random and the
perfect player, and the modes of a seed against each other. `--seeds`, `--steps`; `--json FILE` keeps the figures:
docs/games.md has those of benchmarks/self_play.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from games_bc import Greedy

from llmrl import tiny
from llmrl.data.games import Games
from llmrl.datagen.demonstrations import Demonstrations, write
from llmrl.envs.nim import Nim
from llmrl.games.play import play
from llmrl.recipe import parse
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.types import Problem

ENV = {"name": "nim", "instructions": False}
HF = {"name": "hf", "max_num_seqs": 256}
MODES: Mapping[str, Mapping[str, Any]] = {
    "self": {},
    "frozen": {"second": {"engine": HF}},
    "own": {"second": {"learns": True, "engine": HF}},
}


def trained(sections: Mapping[str, Any], model: Path, seed: int, folder: Path, name: str, steps: int) -> Path:
    """Train a model; return the folder of the run."""
    where = {"output_dir": str(folder), "run_name": name, "report_to": "none", "save_steps": 0, "seed": seed}
    train_options = {"max_steps": steps, "lr_scheduler_type": "linear", **where, **sections["train"]}
    recipe = parse({**sections, "model": {"policy": str(model)}, "train": train_options})
    with Run(recipe) as run:
        train(run)
        return run.folder


def primed(seed: int, folder: Path) -> Path:
    """Train a model on random moves of the first player, from all starts."""
    rows = folder / "rows.jsonl"
    data = Games(env=Nim(instructions=False, seed=seed), split="all")
    write(Demonstrations(data=data, random_share=1.0, episodes=400, seed=seed), rows)
    sections = {
        "algorithm": {"name": "bc"},
        "source": {"name": "offline", "path": str(rows)},
        "rollout": {"prompts_per_step": 16},
        "train": {"learning_rate": 3e-3},
    }
    return trained(sections, tiny.make(folder / "model", hidden=64, layers=2, seed=seed), seed, folder, "primed", 150)


def played(mode: str, model: Path, seed: int, folder: Path, steps: int) -> Path:
    """Learn by games between two agents."""
    sections = {
        "env": {**ENV, "opponent": "agent"},
        "data": {"name": "games", "env": ENV, "split": "all"},
        "reward": {"name": "environment", "judged": False},
        "algorithm": {"name": "grpo", "credit_level": "turn", "scale_rewards": "none"},
        "engine": HF,
        "rollout": {
            "prompts_per_step": 19,
            "num_generations": 8,
            "max_turns": 12,
            "max_prompt_length": 32,
            "max_completion_length": 6,
            "max_reply_length": 16,
            "opponents": MODES[mode],
        },
        "train": {"learning_rate": 1e-3},
    }
    return trained(sections, model, seed, folder, mode, steps)


def wins(model: Path) -> dict[str, float]:
    """Share of all starts that the model wins, moving first, against each player."""
    greedy, shares = Greedy(model), {}
    for opponent in ("random", "perfect"):
        games = [Nim(instructions=False, opponent=opponent, seed=seed) for seed in range(4)]  # type: ignore[arg-type]
        ends = [
            asyncio.run(play(game.make(problem), greedy.player())).last.verdict == "correct"
            for game in (games if opponent == "random" else games[:1])
            for problem in Games(env=game, split="all").problems()
        ]
        shares[opponent] = sum(ends) / len(ends)
    return shares


def duels(first: Path, second: Path) -> float:
    """Share of all starts that the first player wins, both greedy."""
    game = Nim(instructions=False, opponent="agent")
    models = {"first": Greedy(first), "second": Greedy(second)}

    def won(problem: Problem) -> bool:
        players = {agent: model.player() for agent, model in models.items()}
        played = asyncio.run(play(game.make(problem), lambda env, seen: players[seen.agent](env, seen)))
        return played.last.verdict == "correct"

    ends = [won(problem) for problem in Games(env=game, split="all").problems()]
    return sum(ends) / len(ends)


def players(run: Path) -> tuple[Path, Path]:
    """The models of a run that play first and second."""
    apart = run / "final" / "second"
    return run / "final", apart if apart.exists() else run / "final"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", nargs="*", default=list(MODES), choices=list(MODES))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as name:
            model = primed(seed, Path(name)) / "final"
            before, runs = wins(model), {}
            for mode in options.mode:
                began = time.process_time()
                run = runs[mode] = played(mode, model, seed, Path(name), options.steps)
                lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
                results.append(
                    {
                        "mode": mode,
                        "seed": seed,
                        "steps": options.steps,
                        "before": before,
                        "after": wins(run / "final"),
                        "first_against": {
                            other: duels(players(run)[0], players(against)[1]) for other, against in runs.items()
                        },
                        "second_against": {
                            other: 1 - duels(players(against)[0], players(run)[1]) for other, against in runs.items()
                        },
                        "best_moves": [line["env/best_moves"] for line in lines],
                        "first_won": [line["env/first_won"] for line in lines],
                        "illegal": [line["env/illegal"] for line in lines],
                        "seconds": time.process_time() - began,
                    }
                )
                told = "{mode} seed {seed}: {before} to {after}, first {first_against}, second {second_against}"
                print(told.format(**results[-1]), flush=True)
                if options.json:
                    options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
