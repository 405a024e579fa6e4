from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmrl.aio import wait
from llmrl.chat import Chat, load_tokenizer
from llmrl.datagen.step_labels import LabelledSolution, Labelling, label, step_ends, write
from llmrl.engines.scripted import Scripted, ScriptedEngine
from llmrl.errors import DataError
from llmrl.evaluation.generators import EngineGenerator
from llmrl.plugins import build
from llmrl.reward_models.stepwise import stepwise
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Problem, Sampling

PROBLEM = Problem(id="p", messages=[{"role": "user", "content": "12+34="}], answer="46")
SOLUTION = "2+4=6\n10+30=50\n50+6=56"
SEEN = "<|user|>12+34=<|end|><|assistant|>"


def scripted(model: Path, replies: Callable[[str, Sampling], str]) -> EngineGenerator:
    engine = Scripted(replies=replies).start(str(model), dtype="float32", seed=0, max_model_len=999, stop_token_ids=[1])
    return EngineGenerator(engine, Chat(load_tokenizer(model)))


def labelled(model: Path, **options: Any) -> tuple[LabelledSolution | None, EngineGenerator]:
    """After the first line four of eight completions are right, one after the second."""
    asked: dict[str, int] = {}

    def reply(prompt: str, sampling: Sampling) -> str:
        said = prompt.removeprefix(SEEN)
        if not said:
            return SOLUTION
        asked[said] = asked.get(said, 0) + 1
        right = {"2+4=6\n": 4, "2+4=6\n10+30=50\n": 1}[said] >= asked[said]
        return "so 46" if right else "so 47"

    player = scripted(model, reply)
    with GradingPool(1, 5.0) as pool:
        reward = as_group_reward(build("reward", "numeric"), pool)
        made = Labelling(completions=8, sampling=Sampling(max_tokens=100), **options)
        return wait(label(PROBLEM, 0, player, reward, made)), player


def calls(player: EngineGenerator) -> list[str]:
    assert isinstance(player.engine, ScriptedEngine)
    return [player.chat.tokenizer.decode(ids).removeprefix(SEEN) for ids, _ in player.engine.calls]


def test_soft_labels_are_shares_and_the_last_step_has_the_outcome(tiny_model_dir: Path) -> None:
    found, player = labelled(tiny_model_dir, soft=True)
    assert found is not None
    assert found.steps == ["2+4=6", "10+30=50", "50+6=56"]
    assert found.labels == [0.5, 0.125, 0.0]
    assert found.counts == [4, 1, -1]
    assert found.correct is False
    assert len(calls(player)) == 1 + 8 + 8


def test_every_completion_has_a_seed_of_its_own_and_the_rest_of_the_room(tiny_model_dir: Path) -> None:
    _, player = labelled(tiny_model_dir)
    assert isinstance(player.engine, ScriptedEngine)
    assert len({sampling.seed for _, sampling in player.engine.calls}) == 17
    assert [sampling.max_tokens for _, sampling in player.engine.calls[:2]] == [100, 94]
    assert calls(player)[:2] == ["", "2+4=6\n"]


def test_hard_labels_and_the_first_error_that_ends_the_work(tiny_model_dir: Path) -> None:
    found, _ = labelled(tiny_model_dir)
    assert found is not None
    assert found.labels == [1.0, 1.0, 0.0]
    stopped, player = labelled(tiny_model_dir, threshold=0.5, stop_at_first_error=True)
    assert stopped is not None
    assert stopped.labels == [0.0, -100.0, -100.0]
    assert stopped.counts == [4, -1, -1]
    assert len(calls(player)) == 1 + 8


def test_what_nobody_could_judge_has_no_labels(tiny_model_dir: Path) -> None:
    player = scripted(tiny_model_dir, lambda prompt, sampling: SOLUTION)
    with GradingPool(1, 5.0) as pool:
        reward = as_group_reward(build("reward", "numeric"), pool)
        unreadable = Problem(id="p", messages=PROBLEM.messages, answer="none")
        assert wait(label(unreadable, 0, player, reward, Labelling())) is None
        silent = scripted(tiny_model_dir, lambda prompt, sampling: " \n")
        assert wait(label(PROBLEM, 0, silent, reward, Labelling())) is None


@pytest.mark.parametrize(
    ("text", "separator", "ends"),
    [
        ("a\nb", "\n", [2, 3]),
        ("a\n\nb\n", "\n", [2, 5]),
        ("a\n\nb", "\n\n", [3, 4]),
        ("\na", "\n", [2]),
        (" ", "\n", []),
    ],
)
def test_where_steps_end(text: str, separator: str, ends: list[int]) -> None:
    assert step_ends(text, separator) == ends


def test_a_file_of_labels_is_what_process_models_learn_from(tiny_model_dir: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "steps.jsonl", list[str]()
    options = Labelling(solutions=2, completions=3, sampling=Sampling(max_tokens=50))
    engine = {"name": "scripted", "replies": [SOLUTION, "46", "46", "47"]}
    kept = write(str(tiny_model_dir), {"name": "arithmetic", "low": 10}, "numeric", out, options,
                 engine=engine, limit=3, say=said.append)  # fmt: skip
    assert kept == 6
    assert said[0].startswith("6 solutions")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert all(row["n_rollouts"] == 3 and len(row["labels"]) == len(row["completions"]) for row in rows)
    assert len(stepwise(out).kept) == 6
    with pytest.raises(DataError, match="is there already"):
        write(str(tiny_model_dir), "arithmetic", "numeric", out, options)
