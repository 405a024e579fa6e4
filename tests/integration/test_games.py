"""Demonstrations of text games teach a real model by the project's own trainer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from llmrl import plugins
from llmrl.chat import Chat, load_tokenizer
from llmrl.data.games import Games
from llmrl.datagen.demonstrations import Demonstrations, write
from llmrl.games.play import Choose, play
from llmrl.protocols import Env
from llmrl.recipe import Recipe, parse
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.types import Observation

U = {"name": "maze", "layout": "u", "instructions": False, "memory": False}


def demonstrated(spec: dict[str, Any], path: Path, episodes: int) -> float:
    """Write the oracle's episodes from every start; return their mean return."""
    data = Games(env=plugins.build("env", spec), split="all")
    return write(Demonstrations(data=data, episodes=episodes), path)[1]


def recipe(model: Path, folder: Path, rows: Path, prompts: int, max_steps: int) -> Recipe:
    return parse(
        {
            "model": {"policy": str(model)},
            "algorithm": {"name": "bc"},
            "source": {"name": "offline", "path": str(rows)},
            "rollout": {"prompts_per_step": prompts, "max_prompt_length": 256, "max_completion_length": 256},
            "train": {
                "learning_rate": 3e-3,
                "output_dir": str(folder),
                "run_name": "run",
                "report_to": "none",
                "save_steps": 0,
                "max_steps": max_steps,
            },
        }
    )


def greedy(model: Path) -> Choose:
    """A player that takes the likeliest tokens of a model, by Transformers alone."""
    network, tokenizer = AutoModelForCausalLM.from_pretrained(model), load_tokenizer(str(model))
    chat = Chat(tokenizer)

    def choose(env: Env, seen: Observation) -> str:
        prompt = torch.tensor([chat.prompt_ids(seen.messages)])
        ids = network.generate(prompt, do_sample=False, max_new_tokens=16)
        return chat.text(ids[0, prompt.shape[1] :].tolist())

    return choose


def test_a_model_that_imitates_the_oracle_walks_the_maze_as_it_does(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Mean optimum of the six starts of the u: (0 - 1 - 2 - 3 - 4 - 5) / 6."""
    rows = tmp_path / "rows.jsonl"
    assert demonstrated(U, rows, 6) == -2.5
    with Run(recipe(tiny_model_dir, tmp_path, rows, prompts=14, max_steps=80)) as run:
        train(run)
        final = run.folder / "final"
    game = plugins.build("env", U)
    player = greedy(final)
    played = [asyncio.run(play(game.make(problem), player)) for problem in Games(env=game, split="all").problems()]
    assert [episode.last.verdict for episode in played] == ["correct"] * 6
    assert sum(episode.total for episode in played) / 6 == -2.5


@pytest.mark.parametrize("name", ["text_nav", "wordle", "twenty_questions", "guess_city", "car_dealer"])
def test_whole_conversations_are_read_as_rows_of_several_turns(name: str, tiny_model_dir: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    mean = demonstrated({"name": name, "instructions": False}, rows, 8)
    with Run(recipe(tiny_model_dir, tmp_path, rows, prompts=8, max_steps=1)) as run:
        samples = run.source.next(0)
    chat = Chat(load_tokenizer(str(tiny_model_dir)))
    assert len(samples) == 8
    for sample in samples:
        turns = [sample.token_ids[sample.turn_ids == turn].tolist() for turn in range(len(sample.turn_rewards))]
        assert max(sample.turn_ids) == len(turns) - 1
        assert all(map(chat.text, turns))
        assert sample.reward == pytest.approx(sum(sample.turn_rewards))
    assert sum(sample.reward for sample in samples) / 8 == pytest.approx(mean)
