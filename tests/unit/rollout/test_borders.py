"""Each border has its own error: only what the environment raises is an episode of status `error`."""

from __future__ import annotations

from typing import Any

import pytest

from llmrl.aio import wait
from llmrl.chat import Chat
from llmrl.errors import DataError, EngineError, RewardError
from llmrl.recipe import RolloutOptions
from llmrl.rollout.agent_worker import AgentWorker
from llmrl.rollout.worker import RolloutWorker, check_errors
from llmrl.types import Completion, Observation, Problem, Sampling, Trajectory
from tests.builders import scripted_worker
from tests.unit.rollout.test_worker import PROBLEM, TOKENIZER, Asks, Judge


def worker(env: Any, chat: Any = None) -> RolloutWorker:
    options = RolloutOptions(num_generations=2, prompts_per_step=1, max_turns=3)
    return scripted_worker(chat or Chat(TOKENIZER), ("right",), Judge(), options, env)


class Broken:
    """An engine and a chat that raise what no part of llmrl would."""

    def __init__(self, inner: Any, name: str) -> None:
        self._inner, self._name = inner, name

    def __getattr__(self, name: str) -> Any:
        return self._fail if name == self._name else getattr(self._inner, name)

    def _fail(self, *_: Any, **__: Any) -> Any:
        raise KeyError("content")


class BrokenEngine(Broken):
    async def generate(self, prompt_ids: Any, sampling: Sampling) -> Completion:
        raise ValueError("token 9 is out of the vocabulary")


@pytest.mark.parametrize("name", ["prompt_ids", "next_prompt"])
def test_a_template_that_breaks_is_not_the_environment(name: str) -> None:
    played = worker(Asks(["more"]), Broken(Chat(TOKENIZER), name))
    with pytest.raises(DataError, match=r"^problem sum: the chat template and the tokenizer, .*: KeyError: 'content'"):
        wait(played.run_group(PROBLEM, "0/sum"))


def test_an_engine_that_breaks_is_not_the_environment() -> None:
    from dataclasses import replace

    played = worker(Asks())
    with pytest.raises(EngineError, match="the engine, which was asked for a turn: ValueError: token 9 is"):
        wait(replace(played, engine=BrokenEngine(played.engine, "")).run_group(PROBLEM, "0/sum"))


def test_a_row_that_the_template_refuses_is_named() -> None:
    class Shows:
        def make(self, problem: Problem) -> Any:
            return self

        async def reset(self) -> Observation:
            return Observation(messages=[])

        async def close(self) -> None: ...

    with pytest.raises(DataError, match=r"^problem sum: no messages to make a prompt of"):
        wait(worker(Shows()).run_group(PROBLEM, "0/sum"))


def test_what_the_environment_raises_is_data() -> None:
    group = wait(worker(Asks(broken="step")).run_group(PROBLEM, "0/sum"))
    assert [(one.status, one.reason) for one in group] == [("error", "OSError: step broke")] * 2
    with pytest.raises(RewardError, match="Mend the environment"):
        check_errors(group, 0.1, RolloutWorker.breaks)
    with pytest.raises(RewardError, match="Mend the agent"):
        check_errors(group, 0.1, AgentWorker.breaks)
    scored = [Trajectory(problem=PROBLEM, turns=[], status="done")]
    with pytest.raises(RewardError, match="Mend the reward"):
        check_errors(scored, 0.1, RolloutWorker.breaks)
