"""A game of two agents: a text around a problem, the answer, and the rewards of both by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmrl.aio import wait
from llmrl.engines.scripted import Scripted, ScriptedEngine
from llmrl.envs.perturbation import PerturbationGame
from llmrl.errors import LlmrlError
from llmrl.plugins import build
from llmrl.recipe import RolloutOptions
from llmrl.rewards.environment import Environment
from llmrl.rollout.episode import Opponent
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Problem, Trajectory
from tests.builders import scripted_worker
from tests.unit.rollout.test_agents import CHAT

PROBLEM = Problem(id="sum", messages=[{"role": "user", "content": "12+34="}], answer="46")
OPTIONS = {"request": "Vex: {prompt}", "template": "{text} {prompt}", "allowed": "[0-9a-z{} ]{1,8}", "penalty": 0.25}


def game(**options: Any) -> PerturbationGame:
    made: PerturbationGame = build("env", {"name": "perturbation", "reward": "numeric", **OPTIONS, **options})
    return made


def played(text: str, answer: str, opponents: dict[str, Opponent] | None = None, **options: Any) -> Trajectory:
    limits = RolloutOptions(num_generations=1, prompts_per_step=1, max_turns=2, max_completion_length=32)
    reward = as_group_reward(Environment(), GradingPool(1, 5.0))
    worker = scripted_worker(CHAT, (text, answer), reward, limits, game(**options))
    (episode,) = wait(replace(worker, opponents=opponents or {}).run_group(PROBLEM, "0/sum"))
    return episode


def prompts(episode: Trajectory) -> list[str]:
    return [CHAT.tokenizer.decode(turn.prompt_ids) for turn in episode.turns]


@pytest.mark.parametrize(
    ("text", "answer", "rewards", "verdicts", "misled"),
    [
        ("57", "46", [0.0, 1.0], ("correct", "wrong"), 0.0),
        ("57", "91", [1.0, 0.0], ("wrong", "correct"), 1.0),
        ("NO!", "46", [-0.25, 1.0], ("correct", "wrong"), 0.0),
        ("NO!", "91", [-0.25, 0.0], ("wrong", "wrong"), 0.0),
        ("57 NO!", "91", [-0.25, 0.0], ("wrong", "wrong"), 0.0),
        ("<think>5</think> 57 ", "91", [1.0, 0.0], ("wrong", "correct"), 1.0),
    ],
)
def test_rewards_and_verdicts(
    text: str, answer: str, rewards: list[float], verdicts: tuple[str, str], misled: float
) -> None:
    """The writer earns where the solver does not, and pays for a text that is not allowed, whatever comes of it."""
    for player, verdict in zip(("solver", "writer"), verdicts, strict=True):
        episode = played(text, answer, player=player)
        assert [turn.reward for turn in episode.turns] == rewards
        assert (episode.verdict, episode.metrics["misled"]) == (verdict, misled)
        assert episode.metrics["valid"] == float("NO!" not in text)


def test_each_reads_its_own_prompt_and_the_solver_no_text_that_is_not_allowed() -> None:
    assert prompts(played("57", "46")) == [
        "<|user|>Vex: 12+34=<|end|><|assistant|>",
        "<|user|>57 12+34=<|end|><|assistant|>",
    ]
    assert prompts(played("NO!", "46"))[1] == "<|user|>12+34=<|end|><|assistant|>"


def test_names_in_braces_mean_nothing_in_a_text() -> None:
    assert prompts(played("{prompt}", "46"))[1] == "<|user|>{prompt} 12+34=<|end|><|assistant|>"


def test_an_opponent_speaks_at_its_own_temperature() -> None:
    """The writer's engine is asked at 1.4, and at the rollout's 1.0 where it has none; the solver's always at 1.0."""

    class Asked(ScriptedEngine):
        async def generate(self, prompt_ids: Any, sampling: Any) -> Any:
            asked.append(sampling.temperature)
            return await super().generate(prompt_ids, sampling)

    asked: list[float] = []
    engine = Asked(tokenizer=CHAT.tokenizer, options=Scripted(replies=("57",)), stop_token_ids=[2])
    for temperature in (1.4, None):
        episode = played("46", "46", {"writer": Opponent("frozen", engine, temperature)})
        assert [turn.model for turn in episode.turns] == ["frozen", "policy"]
    assert asked == [1.4, 1.0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"reward": "environment"}, "expected a rule of one answer, such as numeric"),
        ({"request": "Vex."}, r"expected a text with \{prompt\}"),
        ({"template": "{prompt}"}, r"expected a text with \{text\} once"),
        ({"allowed": "["}, "expected a regular expression"),
        ({"penalty": -1.0}, "penalty: input should be greater than or equal to 0; found -1"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(LlmrlError, match=expected):
        game(**options)
