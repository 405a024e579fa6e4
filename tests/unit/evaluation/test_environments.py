"""Benchmarks in environments: the same episodes as rollouts, counted and recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmrl.aio import wait
from llmrl.chat import Chat
from llmrl.engines.scripted import Scripted, ScriptedEngine
from llmrl.errors import RecipeError
from llmrl.evaluation.evaluate import Plan, evaluate, seed_of
from llmrl.evaluation.generators import EngineGenerator, of_turn
from llmrl.protocols import Benchmark
from llmrl.rewards.environment import Environment
from llmrl.tiny import make_tokenizer
from llmrl.types import Message, Observation, Problem, Sampling

TOKENIZER = make_tokenizer()


@dataclass
class Guessing:
    """Right where the message is the number; otherwise a hint, for a reward of -1."""

    problem: Problem

    async def reset(self) -> Observation:
        return Observation(messages=self.problem.messages)

    async def step(self, message: Message) -> Observation:
        if message["content"] == self.problem.answer:
            return Observation(done=True, verdict="correct", metrics={"won": 1.0})
        return Observation(messages=[{"role": "user", "content": "No."}], reward=-1.0)

    async def close(self) -> None: ...


@dataclass(frozen=True)
class GuessingGame:
    def make(self, problem: Problem) -> Guessing:
        return Guessing(problem)


@dataclass(frozen=True)
class Numbers:
    def problems(self) -> Iterator[Problem]:
        for number in range(3):
            yield Problem(id=f"n{number}", messages=[{"role": "user", "content": "Guess."}], answer=str(number))


GAME = Benchmark(
    data={"name": f"{__name__}:Numbers"},
    reward={"name": "environment"},
    env={"name": f"{__name__}:GuessingGame"},
    max_turns=2,
    sampling=Sampling(temperature=0.0, max_tokens=4),
    about="three numbers, two guesses",
)


def generator(**options: Any) -> EngineGenerator:
    """Counts upwards: the first guess is 0, the second 1."""
    engine = ScriptedEngine(
        tokenizer=TOKENIZER,
        options=Scripted(replies=lambda prompt, _: str(prompt.count("No."))),
        stop_token_ids=[TOKENIZER.eos_token_id],
    )
    return EngineGenerator(engine, Chat(TOKENIZER), {"model": "m"}, **options)


def test_a_benchmark_is_played_over_turns(tmp_path: Path) -> None:
    player = generator()
    result = wait(evaluate(f"{__name__}:GAME", player, Environment(), tmp_path, Plan(seed=3)))
    assert result["metrics"]["avg@1"]["value"] == pytest.approx(2 / 3)
    assert result["verdicts"] == {"correct": 2, "truncated": 1}
    assert result["truncated"] == pytest.approx(1 / 3)
    assert result["parts"] == {"return": -1.0, "turns": pytest.approx(5 / 3), "won": 1.0}
    (path,) = tmp_path.glob("*.jsonl")
    first, second, third = sorted(map(json.loads, path.read_text().splitlines()), key=lambda record: record["problem"])
    assert (first["value"], second["value"], third["value"]) == (0.0, -1.0, -2.0)
    assert [turn["text"] for turn in second["turns"]] == ["0", "1"]
    assert (third["status"], third["cut_off"], third["verdict"]) == ("max_turns", True, "truncated")
    assert isinstance(player.engine, ScriptedEngine)
    seeds = {sampling.seed for _, sampling in player.engine.calls}
    assert {seed_of(3, "n1", 0), of_turn(Sampling(seed=seed_of(3, "n1", 0)), 1).seed} <= seeds
    assert len(seeds) == 5, "each turn of each episode has its own"
    settings = json.loads((tmp_path / "config.json").read_text())
    assert next(iter(settings.values()))["player"]["max_turns"] == 2


def test_a_prompt_without_room_and_a_model_without_room_end_an_episode(tmp_path: Path) -> None:
    long = wait(evaluate(f"{__name__}:GAME", generator(max_prompt_tokens=4), Environment(), tmp_path / "a"))
    assert long["unjudged"] == 3
    short = wait(evaluate(f"{__name__}:GAME", generator(max_model_len=12), Environment(), tmp_path / "b"))
    assert short["verdicts"] == {"correct": 1, "truncated": 2}, "no second turn fits"


def test_who_plays_no_environment_says_so(tmp_path: Path) -> None:
    class Server:
        settings: dict[str, Any] = {}  # noqa: RUF012

        async def generate(self, problem: Problem, sampling: Sampling) -> Any: ...

    with pytest.raises(RecipeError, match=r"played in the environment .*GuessingGame, which a search and a server"):
        wait(evaluate(f"{__name__}:GAME", Server(), Environment(), tmp_path))
