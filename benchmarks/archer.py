"""ArCHer against GRPO and PPO over turns and filtered imitation, on text games, on a CPU.

    python benchmarks/archer.py --seeds 5 --out docs/results/archer

A model of 2 layers and 64 dimensions imitates a player of whose moves a share is random; then each method learns from
the same number of episodes, sampled at temperature 1. For each game OUT_GAME.png, .csv, .json and .md have curves of
the mean return and a table; OUT.json has, for each run, the turns played until the return reached the game's
threshold, and the critic beside the returns that came. A run that is there already is kept.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GROUP = 4
"""Episodes of a step from each of its starts."""
STEPS = 45
IMITATED = 100  # steps of 24 episodes
SMOOTHED = 5  # steps over which a return is averaged
METHODS: Mapping[str, Mapping[str, Any]] = {
    "archer": {
        "algorithm": {
            "name": "archer",
            "actor_loss": "awr",
            "inv_temp": 2.0,
            "v_target": "expectile",
            "expectile": 0.7,
            "critic_warmup": 12,
            "critic_steps": 25,
            "actor_steps": 4,
        },
        "source": {"name": "replay", "turns": 640, "proposals": 0},
        "critic": {"learning_rate": 1e-3},
        "train": {"learning_rate": 3e-4, "lr_scheduler_type": "constant"},
    },
    "grpo": {"algorithm": {"name": "grpo", "credit_level": "turn", "turn_discount": 0.95}},
    "ppo": {"algorithm": {"name": "ppo", "turn_discount": 0.95}, "critic": {"learning_rate": 1e-3}},
    "filtered_bc": {
        "algorithm": {"name": "bc", "minibatches": 2},
        "source": {
            "name": "replay",
            "turns": 640,
            "quantile": 0.9,
            "quantile_of": "prompt",  # starts differ in what can be earned
            "proposals": 0,
            "fresh": False,
        },
    },
}
GAMES: Mapping[str, Mapping[str, Any]] = {  # `random_share` of the moves that are imitated; `starts` of a step
    "wordle": {
        "env": {"name": "wordle", "vocabulary": 8, "instructions": False},
        "rollout": {"max_turns": 6, "max_completion_length": 8, "max_reply_length": 24},
        "starts": 8,
        "random_share": 0.7,
        "threshold": -2.0,
    },
    "twenty_questions": {
        "env": {"name": "twenty_questions", "objects": "small", "instructions": False},
        "rollout": {"max_turns": 20, "max_completion_length": 16, "max_reply_length": 24},
        "starts": 6,
        "random_share": 0.7,
        "threshold": -12.0,
    },
    "maze": {
        "env": {"name": "maze", "layout": "u", "max_moves": 15, "instructions": False},
        "rollout": {"max_turns": 16, "max_completion_length": 6, "max_reply_length": 64},
        "starts": 6,
        "random_share": 0.6,
        "threshold": -5.0,
    },
}


def recipe(game: str, model: Path, folder: Path, name: str, seed: int, **sections: Any) -> dict[str, Any]:
    """A recipe of the game; `sections` come over it."""
    env = GAMES[game]["env"]
    limits = {"max_prompt_length": 160, "overlong_turns": "answer", **GAMES[game]["rollout"]}
    run = {
        "model": {"policy": str(model)},
        "env": env,
        "data": {"name": "games", "env": env, "split": "all"},
        "reward": {"name": "environment"},
        "engine": {"name": "hf"},
        "rollout": {"prompts_per_step": GAMES[game]["starts"], "num_generations": GROUP, **limits},
        "train": {"max_steps": STEPS, "learning_rate": 5e-4, "lr_scheduler_type": "linear"},
        **{key: section for key, section in sections.items() if key not in ("rollout", "train")},
    }
    run["rollout"] |= sections.get("rollout", {})
    run["train"] |= sections.get("train", {})
    run["train"] |= {"output_dir": str(folder), "run_name": f"{name}-{seed}", "seed": seed}
    run["train"] |= {"report_to": "none", "save_steps": 0}
    return run


def trained(run: Mapping[str, Any]) -> Path:
    """The folder of a run, trained unless it is there already."""
    from llmrl.recipe import parse
    from llmrl.train.loop import train
    from llmrl.train.run import Run

    folder = Path(run["train"]["output_dir"]) / run["train"]["run_name"]
    if not (folder / "final" / "config.json").exists():
        with Run(parse(run)) as made:
            train(made)
    return folder


def primed(game: str, seed: int, folder: Path) -> Path:
    """A model that has imitated episodes in which a share of the moves is random."""
    from llmrl import plugins, tiny
    from llmrl.data.games import Games
    from llmrl.datagen.demonstrations import Demonstrations, write

    env = plugins.build("env", GAMES[game]["env"])
    rows, share = folder / f"rows-{seed}.jsonl", GAMES[game]["random_share"]
    if not rows.exists():
        write(Demonstrations(data=Games(env=env, split="all"), random_share=share, episodes=400, seed=seed), rows)
    model = folder / f"model-{seed}"
    if not model.exists():
        episodes = [json.loads(line)["messages"] for line in rows.read_text(encoding="utf-8").splitlines()]
        texts = [message["content"] for messages in episodes for message in messages]
        tiny.make(model, texts=texts, hidden=64, layers=2, seed=seed)
    settings: dict[str, Any] = {
        "algorithm": {"name": "bc"},
        "source": {"name": "offline", "path": str(rows)},
        "rollout": {"prompts_per_step": 24},
        "train": {"max_steps": IMITATED, "learning_rate": 3e-3},
    }
    return trained(recipe(game, model, folder, "primed", seed, **settings)) / "final"


def measured(run: Path, game: str) -> dict[str, Any]:
    """Returns and turns of a run, and what its critic said of them."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    returns, turns = ([line[name] for line in lines] for name in ("reward", "turns/mean"))
    threshold, episodes = GAMES[game]["threshold"], GROUP * GAMES[game]["starts"]
    smooth = [fmean(returns[max(0, i + 1 - SMOOTHED) : i + 1]) for i in range(len(returns))]
    reached = next((i for i, value in enumerate(smooth) if i + 1 >= SMOOTHED and value >= threshold), None)
    last = lines[-SMOOTHED:]
    critic = {name: [line.get(name) for line in lines] for name in ("explained_variance", "overestimate/mean")}
    method, _, seed = run.name.rpartition("-")
    return {
        "method": method,
        "seed": int(seed),
        "first": fmean(returns[:SMOOTHED]),
        "last": fmean(returns[-SMOOTHED:]),
        "won_first": fmean(line["accuracy"] for line in lines[:SMOOTHED]),
        "won_last": fmean(line["accuracy"] for line in last),
        "turns": episodes * sum(turns),
        "turns_to_threshold": None if reached is None else episodes * sum(turns[: reached + 1]),
        "seconds": sum(line["step_time"] for line in lines),
        **{name: values for name, values in critic.items() if any(value is not None for value in values)},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="*", default=list(GAMES), choices=list(GAMES))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--engine", default="hf", choices=["hf", "vllm"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("runs/archer"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/archer"))
    options = parser.parse_args(arguments)
    from llmrl.run_folder.curves import draw

    results: list[dict[str, Any]] = []
    for game in options.games:
        folder = (options.work / game).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(options.seeds):
            model = primed(game, seed, folder)
            for method in options.methods:
                sections = {"engine": {"name": options.engine}, **METHODS[method]}
                run = trained(recipe(game, model, folder, method, seed, **sections))
                results.append({"game": game, **measured(run, game)})
                print(
                    "{game} {method} {seed}: {first:.2f} to {last:.2f}, {seconds:.0f} s".format(**results[-1]),
                    flush=True,
                )
                options.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        runs = [folder / f"{method}-{seed}" for method in options.methods for seed in range(options.seeds)]
        draw(runs, options.out.with_name(f"{options.out.name}_{game}"), "reward", f"{game}: return of sampled episodes")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
