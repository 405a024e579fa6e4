"""A search as a rollout worker: groups, seeds, scores; in a source; many trees in one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from llmrl.envs.single_turn import SingleTurn
from llmrl.errors import RecipeError
from llmrl.plugins import build
from llmrl.protocols import Engine
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.searcher import Searcher
from llmrl.recipe import RolloutOptions
from llmrl.rollout.samples import to_samples
from llmrl.rollout.search_worker import SearchWorker
from llmrl.types import Completion, Sampling
from tests.builders import SUMS, Grader
from tests.unit.search.worlds import CHAT, TextJudge, engine


def worker(replies: Any, spec: Any, judge: TextJudge | None = None, asked: Any = None) -> SearchWorker:
    return SearchWorker(
        engine=asked or engine(replies),
        chat=CHAT,
        env=SingleTurn(),
        reward=Grader(lambda one: one.text == one.problem.answer),
        options=RolloutOptions(num_generations=2, max_completion_length=16),
        seed=0,
        strategy=build("search", spec, "search"),
        judge=None if judge is None else AnswerJudge(judge),
    )


def test_a_group_of_searches_is_scored_against_the_reference() -> None:
    """The judge likes long answers and never sees the reference; the reward, which does, scores the chosen ones."""
    judge = TextJudge(lambda text: float(len(text)))
    made = worker(["1", "one", "1", "no"], {"name": "best_of_n", "n": 2}, judge)
    group = asyncio.run(made.run_group(SUMS[0], "g"))
    assert [one.text for one in group] == ["one", "no"]
    assert [one.score.correct for one in group if one.score] == [False, False]
    assert {one.problem.answer for one in judge.shown} == {""}
    assert {one.problem.answer for one in group} == {"1"}
    (sample,) = to_samples(group[0])
    assert len(sample.token_ids) == len(group[0].turns[0].prompt_ids) + 4
    assert (sample.turn_ids >= 0).sum() == 4


def test_seeds_are_those_of_every_worker() -> None:
    searching = engine(["1"])
    asyncio.run(worker([], {"name": "majority", "n": 1}, asked=searching).run_group(SUMS[0], "g"))
    expected = [worker(["1"], "majority")._sampling("g", episode, 0) for episode in (0, 1)]
    assert [sampling for _, sampling in searching.calls] == expected


def test_a_prefix_is_refused() -> None:
    with pytest.raises(RecipeError, match="without restarts"):
        asyncio.run(worker(["1"], "majority").run_episode(SUMS[0], "g", 0, [70]))


@dataclass
class Crowded:
    """An engine that counts the requests that wait at the same time."""

    inner: Any
    waiting: int = 0
    most: int = 0

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        for _ in range(8):
            await asyncio.sleep(0)
        self.waiting -= 1
        completion: Completion = await self.inner.generate(prompt_ids, sampling)
        return completion


@pytest.mark.parametrize(("spec", "each"), [("best_of_n", 8), ("beam", 16), ("plan_mcts", 5)])
def test_several_trees_share_a_batch(spec: str, each: int) -> None:
    """Seven problems at once: the first requests of all their trees wait together, each with its own children."""
    crowded: Engine = Crowded(engine(["a\n", "b\n", "c"]))  # type: ignore[assignment]
    searcher = Searcher(
        engine=crowded,
        chat=CHAT,
        strategy=build("search", spec, "search"),
        judge=AnswerJudge(TextJudge(lambda text: 0.5)),
    )

    async def play() -> None:
        await asyncio.gather(*(searcher.play(problem, Sampling(seed=1, max_tokens=8)) for problem in SUMS))

    asyncio.run(play())
    assert crowded.most == each * len(SUMS)  # type: ignore[attr-defined]
