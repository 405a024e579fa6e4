"""Behaviour cloning of the text games' experts by a tiny model, on a CPU: `python benchmarks/games_bc.py`.

Names of games choose some of them; `--json FILE`, `--seeds N`. A model of 4 layers and 64 dimensions, from nothing,
learns from demonstrations as `llmrl data play` writes them; then it plays greedily, all starts or the held-out ones.
The table in docs/games.md is made of benchmarks/games_bc.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM

from llmrl import plugins, tiny
from llmrl.chat import Chat, load_tokenizer
from llmrl.data.games import Games
from llmrl.datagen.demonstrations import Demonstrations, write
from llmrl.evaluation.statistics import estimate
from llmrl.games.play import Choose, play
from llmrl.protocols import Env
from llmrl.recipe import parse
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.types import Message, Observation

Split = Literal["train", "heldout", "all"]


@dataclass(frozen=True)
class Setting:
    """A game, the starts to learn from and those to play, and how long to learn."""

    env: Mapping[str, Any]
    learned: Split
    played: Split
    episodes: int
    steps: int


SETTINGS = {
    "maze": Setting({"name": "maze", "memory": False}, "all", "all", 25, 400),
    "wordle, 60 words": Setting({"name": "wordle", "rule": "standard", "vocabulary": 60}, "train", "heldout", 60, 300),
    "twenty_questions": Setting({"name": "twenty_questions"}, "train", "heldout", 80, 300),
    "guess_city": Setting({"name": "guess_city"}, "train", "heldout", 100, 300),
}


def cloned(setting: Setting, seed: int, folder: Path) -> Path:
    """Train a model on the expert's episodes; return its folder."""
    game = plugins.build("env", {**setting.env, "instructions": False})
    rows = folder / "rows.jsonl"
    write(Demonstrations(data=Games(env=game, split=setting.learned), episodes=setting.episodes, seed=seed), rows)
    policy = tiny.make(folder / "model", hidden=64, layers=4, seed=seed)
    recipe = parse(
        {
            "model": {"policy": str(policy)},
            "algorithm": {"name": "bc"},
            "source": {"name": "offline", "path": str(rows)},
            "rollout": {"prompts_per_step": 16, "max_prompt_length": 512, "max_completion_length": 64},
            "train": {
                "max_steps": setting.steps,
                "learning_rate": 3e-3,
                "lr_scheduler_type": "linear",
                "output_dir": str(folder),
                "run_name": "run",
                "report_to": "none",
                "save_steps": 0,
                "seed": seed,
            },
        }
    )
    with Run(recipe) as run:
        train(run)
        return run.folder / "final"


class Greedy:
    """Plays episodes by the likeliest tokens of a model; equal prompts are answered once."""

    def __init__(self, model: Path) -> None:
        self._network = AutoModelForCausalLM.from_pretrained(model)
        self._chat = Chat(load_tokenizer(str(model)))
        self._known: dict[tuple[int, ...], str] = {}

    def player(self) -> Choose:
        """A player for an episode."""
        messages: list[Message] = []

        def choose(env: Env, seen: Observation) -> str:
            if seen.whole:
                messages.clear()
            messages.extend(seen.messages)
            prompt = tuple(self._chat.prompt_ids(messages))
            if prompt not in self._known:
                ids = self._network.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=64)
                self._known[prompt] = self._chat.text(ids[0, len(prompt) :].tolist())
            messages.append({"role": "assistant", "content": self._known[prompt]})
            return self._known[prompt]

        return choose


def measured(name: str, seeds: int) -> dict[str, Any]:
    """Returns of the clones over the starts that are played, of all seeds together."""
    setting = SETTINGS[name]
    game = plugins.build("env", {**setting.env, "instructions": False})
    problems = list(Games(env=game, split=setting.played).problems())
    episodes, seconds = [], 0.0
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            final = cloned(setting, seed, Path(folder))
            seconds += (time.process_time() - start) / seeds
            model = Greedy(final)
            episodes += [asyncio.run(play(game.make(problem), model.player())) for problem in problems]
    return {
        "game": name,
        "learned": f"{setting.episodes} of {setting.learned}",
        "played": f"{len(problems)} of {setting.played}",
        "return": estimate([episode.total for episode in episodes]).as_dict(),
        "won": sum(episode.last.verdict == "correct" for episode in episodes) / len(episodes),
        "seconds": seconds,
        "seeds": seeds,
    }


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The figures as Markdown."""
    yield "| game | episodes to learn from | starts played | return | won | processor seconds |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        returns = "{value:.2f} ({low:.2f} to {high:.2f})".format(**row["return"])
        cells = [row["game"], row["learned"], row["played"], returns, f"{row['won']:.0%}", f"{row['seconds']:.0f}"]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("games", nargs="*")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measured(name, options.seeds) for name in options.games or SETTINGS]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
