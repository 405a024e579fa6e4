"""Benchmarks of several turns, played by an engine whose replies are scripted, through the evaluation's own parts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmrl import plugins
from llmrl.chat import Chat, load_tokenizer
from llmrl.engines.scripted import Scripted
from llmrl.envs.maze import Walk
from llmrl.evaluation.evaluate import Plan, evaluate
from llmrl.evaluation.generators import EngineGenerator, playing
from llmrl.types import Sampling

Reply = Callable[[str, Sampling], str]


def evaluated(name: str, reply: Reply, model: Path, out: Path, **plan: Any) -> dict[str, Any]:
    benchmark = plugins.build("benchmark", name)
    chat = Chat(load_tokenizer(str(model)))
    engine = Scripted(replies=reply).start(
        str(model), dtype="float32", seed=0, max_model_len=1 << 20, stop_token_ids=chat.stop_token_ids()
    )
    generator = playing(EngineGenerator(engine, chat), benchmark, name)
    reward = plugins.build("reward", benchmark.reward)
    return asyncio.run(evaluate(name, generator, reward, out, Plan(**plan)))


def oracle(prompt: str, sampling: Sampling) -> str:
    """The expert's move at the position that the prompt names last."""
    row, column = re.findall(r"current position is at position ([\d ]+), ([\d ]+)\.", prompt)[-1]
    cell = (int(row.replace(" ", "")), int(column.replace(" ", "")))
    best: str = plugins.build("env", "maze").best(Walk(cell))
    return best


def test_the_maze_is_evaluated_over_all_of_its_starts(tiny_model_dir: Path, tmp_path: Path) -> None:
    best = evaluated("maze", oracle, tiny_model_dir, tmp_path / "best")
    assert best["problems"] == 25
    assert best["metrics"]["avg@1"]["value"] == 1.0
    assert best["parts"]["return"] == pytest.approx(-6.84)
    assert best["parts"]["moves"] == pytest.approx(7.84)


def test_a_player_that_never_moves_is_wrong(tiny_model_dir: Path, tmp_path: Path) -> None:
    worst = evaluated("maze", lambda prompt, sampling: "jump", tiny_model_dir, tmp_path, limit=1)
    assert worst["metrics"]["avg@1"]["value"] == 0.0
    assert worst["parts"]["return"] == -4.0 * 100 - 1.0
    assert worst["parts"]["illegal"] == 100


@pytest.mark.parametrize(
    "name", ["text_nav", "wordle", "twenty_questions", "guess_city", "car_dealer", "chess_endgame"]
)
def test_every_game_is_evaluated_to_its_end(name: str, tiny_model_dir: Path, tmp_path: Path) -> None:
    result = evaluated(name, lambda prompt, sampling: "Is it alive?", tiny_model_dir, tmp_path, limit=2)
    assert result["problems"] == 2
    assert result["metrics"]["avg@1"]["value"] == 0.0
    assert result["parts"]["moves"] == plugins.build("benchmark", name).max_turns
