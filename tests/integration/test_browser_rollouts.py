"""The rollout worker plays in a real Chromium: turns, rewards, verdicts and rows are those of the environment."""

from __future__ import annotations

import re
from typing import Any

import pytest

from llmrl import plugins
from llmrl.aio import wait
from llmrl.browser.host import host
from llmrl.chat import Chat
from llmrl.recipe import RolloutOptions
from llmrl.rewards.environment import Environment
from llmrl.rollout.samples import to_samples
from llmrl.scoring.manager import GroupReward
from llmrl.tiny import make_tokenizer
from llmrl.types import Problem, Sampling, Trajectory
from tests.builders import scripted_worker, some
from tests.chromium import needs_chromium

pytestmark = needs_chromium


def log_in(prompt: str, sampling: Sampling) -> str:
    """Solve login-user from the text of the prompt alone."""
    user, password = re.findall(r'username "(.*?)" and the password "(.*?)"', prompt)[-1]
    page = prompt.rpartition('label "Username"')[2]
    fields = re.findall(r'\[(\d+)\] input_\w+ #\w+ value="(.*?)"', page)
    button = re.findall(r'\[(\d+)\] button #subbtn "Login"', page)[0]
    (first, has_user), (second, has_password) = fields
    if not has_user:
        return f'I type the name.\ntype({first}, "{user}")'
    return f"click({button})" if has_password else f'type({second}, "{password}")'


def play(**env: Any) -> list[Trajectory]:
    options = RolloutOptions(
        num_generations=2,
        prompts_per_step=1,
        max_turns=6,
        max_prompt_length=4000,
        max_completion_length=200,
        max_reply_length=2000,
    )
    problem = Problem(id="p", messages=[], info={"task": "login-user", "seed": 5})
    reward = GroupReward("environment", reward=Environment(), timeout_s=5.0)
    factory = plugins.build("env", {"name": "miniwob", **env})
    worker = scripted_worker(Chat(make_tokenizer()), log_in, reward, options, factory)
    try:
        return wait(worker.run_group(problem, "g"))
    finally:
        wait(host().run(host().browser.close()))


@pytest.mark.parametrize("history", ["kept", "placeholders"])
def test_a_group_is_played_and_scored(history: str) -> None:
    for episode in some(play(history=history, shaping=0.5)):
        assert (episode.status, episode.verdict, episode.reason) == ("done", "correct", "")
        assert [turn.reward for turn in episode.turns] == pytest.approx([0.25, 0.25, 1.0])
        assert episode.earned == pytest.approx(1.5)
        assert episode.score is not None
        assert episode.score.correct
        assert episode.metrics["steps"] == 3
        samples = to_samples(episode)
        assert len(samples) == (1 if history == "kept" else 3)
        texts = [make_tokenizer().decode(list(turn.prompt_ids)) for turn in episode.turns]
        pages = [text.count('label "Username"') for text in texts]
        assert pages == ([1, 2, 3] if history == "kept" else [1, 1, 1])


def test_a_limit_of_steps_is_cut_off() -> None:
    for episode in some(play(max_steps=1)):
        assert (episode.status, episode.verdict) == ("cut", "truncated")
        assert episode.earned == 0.0
