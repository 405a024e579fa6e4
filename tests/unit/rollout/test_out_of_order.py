"""Episodes that end in any order, break in the middle, and are of the same problem: each keeps what is its own."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from llmrl.aio import wait
from llmrl.algorithms.grpo import GRPO
from llmrl.chat import Chat
from llmrl.engines.scripted import Scripted, ScriptedEngine
from llmrl.envs.single_turn import SingleTurn
from llmrl.recipe import RolloutOptions
from llmrl.rollout.worker import RolloutWorker
from llmrl.samples import Sample
from llmrl.sources.asynchronous import Asynchronous
from llmrl.sources.online import Online
from llmrl.tiny import make_tokenizer
from llmrl.types import Completion, Message, Observation, Problem, Sampling, Score, Trajectory
from tests.builders import SUMS, some, source_context

CHAT = Chat(make_tokenizer())


def reply(prompt: str, sampling: Sampling) -> str:
    """The number in the question, and the seed: who asked, and for which episode."""
    return f"{prompt.partition('+')[0][-1]}:{sampling.seed}"


def worth(text: str) -> float:
    return float(int(text.partition(":")[2]) % 11)


@dataclass
class Late:
    """An engine whose answers come in an order of chance."""

    inner: ScriptedEngine
    random: Random = field(default_factory=lambda: Random(0))

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        completion = await self.inner.generate(prompt_ids, sampling)
        for _ in range(self.random.randrange(15)):
            await asyncio.sleep(0)
        return completion

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@dataclass(frozen=True)
class Breaks(SingleTurn):
    """A single turn, which some answers break."""

    def make(self, problem: Problem) -> Any:
        return Broken(problem)


@dataclass
class Broken:
    """An episode of it."""

    problem: Problem

    async def reset(self) -> Observation:
        return Observation(messages=self.problem.messages)

    async def step(self, message: Message) -> Observation:
        if worth(message["content"]) % 3 == 0:
            raise ValueError("it broke")
        return Observation(messages=[], done=True)

    async def close(self) -> None:
        pass


class Worth:
    """Each episode's own number, whichever group is scored first."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        for _ in range(20 - len(group)):
            await asyncio.sleep(0)
        return [Score(worth(episode.text)) for episode in group]

    def latencies(self) -> dict[str, list[float]]:
        return {}


def worker(env: Any = None, **options: Any) -> RolloutWorker:
    engine = ScriptedEngine(
        tokenizer=CHAT.tokenizer,
        options=Scripted(replies=reply, concurrent=True),
        stop_token_ids=[CHAT.tokenizer.eos_token_id],
    )
    return RolloutWorker(
        engine=Late(engine),  # type: ignore[arg-type]
        chat=CHAT,
        env=env or SingleTurn(),
        reward=Worth(),  # type: ignore[arg-type]
        options=RolloutOptions(**{"num_generations": 4, "max_completion_length": 32} | options),
        seed=0,
    )


def number(problem: Problem) -> str:
    return problem.id.removeprefix("p")


def test_scores_are_those_of_their_episodes_whoever_broke_between_them() -> None:
    player = worker(Breaks(), num_generations=9)

    async def play() -> list[list[Trajectory]]:
        return await asyncio.gather(*(player.run_group(problem, f"0/{problem.id}") for problem in SUMS))

    broken = 0
    for problem, group in zip(SUMS, wait(play()), strict=True):
        assert [episode.episode for episode in group] == list(range(9))
        for episode in group:
            seed = player._sampling(f"0/{problem.id}", episode.episode, 0).seed
            assert episode.score is not None
            if episode.status == "error":
                broken += 1
                assert episode.score.value is None
            else:
                assert episode.text == f"{number(problem)}:{seed}"
                assert episode.score.value == worth(episode.text)
    assert 5 < broken < 40


def test_completions_of_prompts_are_in_their_order() -> None:
    player, names = worker(), [f"n{i}" for i in range(7)]
    prompts = [CHAT.prompt_ids(problem.messages) for problem in SUMS]
    texts = [CHAT.text(completion.token_ids) for completion in wait(player.complete(prompts, names))]
    assert texts == [f"{i}:{player._sampling(name, 0, 0).seed}" for i, name in enumerate(names)]


@pytest.mark.parametrize("source", [Online(), Asynchronous(max_staleness=2)], ids=["online", "asynchronous"])
def test_draws_of_one_problem_in_a_step_are_groups_of_their_own(source: Any) -> None:
    """Three problems, seven groups a step: each problem is drawn at least twice."""
    player = worker(prompts_per_step=7)
    opened = source.start(source_context(player, SUMS[:3], player.options))
    seen: set[str] = set()
    try:
        for step in range(3):
            rows: list[Sample] = opened.next(step)
            groups: dict[str, list[Sample]] = defaultdict(list)
            for row in rows:
                groups[row.group].append(row)
            assert len(groups) == 7
            assert not seen & groups.keys(), "a name is given once"
            seen |= groups.keys()
            for name, group in groups.items():
                assert [row.episode for row in group] == list(range(4))
                for row in group:
                    text = CHAT.text(row.token_ids[row.action_mask].tolist())
                    assert text == f"{name[-1]}:{player._sampling(name, row.episode, 0).seed}"
                    assert row.reward == worth(text)
            for name, group in groups.items():
                mean = sum(row.reward for row in group) / 4
                credited = [row for row in GRPO(scale_rewards="none").credit(rows) if row.group == name]
                for row in some(credited):
                    assert float(row.advantages[row.action_mask][0]) == pytest.approx(row.reward - mean, abs=1e-6)
    finally:
        opened.close()
