"""Restarts that are played ahead: a draw knows what was learned before it was made, whatever is fast or slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, ClassVar, cast

import pytest

from llmrl import aio
from llmrl.chat import Chat
from llmrl.engines.scripted import ScriptedEngine
from llmrl.recipe import RolloutOptions
from llmrl.rollout.cuts import LineCuts, Snapshot
from llmrl.rollout.restarts import RestartSampler
from llmrl.rollout.sampler import FreshSampler
from llmrl.rollout.source import RolloutSource
from llmrl.rollout.worker import RolloutWorker
from llmrl.sources.asynchronous import Asynchronous
from llmrl.sources.restarts import Restarts
from llmrl.tiny import make_tokenizer
from llmrl.train import state_file
from llmrl.types import Problem, Sampling, Score, Trajectory
from tests.builders import SUMS, Gather, Grader, on_ranks, scripted_worker, source_context

OPTIONS = RolloutOptions(prompts_per_step=4, num_generations=2, max_completion_length=24)
TOKENIZER = make_tokenizer()
CHAT = Chat(TOKENIZER)
EVEN = Grader(lambda one: one.text.count("x") % 2 == 0)
"""Right where the whole text, prefix included, has an even number of letters x."""


@dataclass
class Plays:
    """A real player whose groups last as long as `last` says, in seconds, by their name."""

    breaks: ClassVar[str] = "environment"
    player: RolloutWorker
    last: Callable[[str], float] = lambda _: 0.0

    @property
    def chat(self) -> Chat:
        return self.player.chat

    async def run_group(self, problem: Problem, name: str, prefix_ids: Sequence[int] = ()) -> list[Trajectory]:
        await asyncio.sleep(self.last(name))
        return await self.player.run_group(problem, name, prefix_ids)


def lines(_prompt: str, sampling: Sampling) -> str:
    assert sampling.seed is not None
    return "ab\nc" + "x" * (sampling.seed % 4) + "\ndone"


def start(
    settings: Restarts,
    last: Callable[[str], float] = lambda _: 0.0,
    rank: tuple[int, int] = (0, 1),
    gather: Gather = lambda groups: groups,
) -> tuple[RolloutSource, ScriptedEngine]:
    player = scripted_worker(CHAT, lines, EVEN, OPTIONS, concurrent=True)
    plays = cast(RolloutWorker, Plays(player, last))
    source = settings.start(source_context(plays, SUMS, OPTIONS, rank=rank, gather=gather))
    return source, cast(ScriptedEngine, player.engine)


def pause(speed: int, name: str) -> float:
    """Seconds that a group takes, another choice for each speed; 0: none."""
    return Random(f"{speed}/{name}").choice([0.0, 0.0, 0.004]) if speed else 0.0


def played(source: RolloutSource) -> list[Any]:
    """Group, prefix tokens and text of each episode of the step."""
    return [(one.group, one.turns[0].prompt_ids, one.text) for group in source.played for one in group]


def restarts(source: RolloutSource) -> int:
    return sum(group[0].group.startswith("r") for group in source.played)


@pytest.mark.parametrize("bound", [1, 2])
def test_the_first_restarts_go_on_from_the_first_step(bound: int) -> None:
    """Step 1 is the first that draws with something to go on from, and it draws for step 1 + bound."""
    source, engine = start(Restarts(share=0.5, decay_steps=1000, max_staleness=bound))
    counts, first = [], set()
    for step in range(bound + 3):
        rows = source.next(step)
        assert all(0 <= step - row.version <= bound for row in rows)
        first |= {group[0].problem.id for group in source.played} if step == 0 else set()
        counts.append(restarts(source))
        if step == bound + 1:
            assert {group[0].problem.id for group in source.played if group[0].group.startswith("r")} <= first
            assert source.metrics[f"staleness/lag_{bound}/frac"] == 1.0
            assert source.metrics["restarts/frac"] == 0.5
        aio.wait(source.scheduler._settled())
        engine.version = step + 1
    assert counts == [0] * (bound + 1) + [2, 2]
    source.close()


def test_a_share_is_that_of_the_step_that_learns() -> None:
    """Steps 2, 3 ... learn what steps 1, 2 ... drew: round(4 * 0.8 * (1 - step / 8))."""
    source, engine = start(Restarts(share=0.8, decay_steps=8, max_staleness=1))
    counts = []
    for step in range(10):
        source.next(step)
        counts.append(restarts(source))
        engine.version = step + 1
    assert counts == [0, 0, 2, 2, 2, 1, 1, 0, 0, 0]
    assert cast(RestartSampler, source.sampler).snapshots == []
    source.close()


@pytest.mark.parametrize("most", [None, 1, 3])
def test_draws_do_not_depend_on_what_is_slow(most: int | None) -> None:
    settings = Restarts(
        share=0.7, decay_steps=20, max_staleness=2, max_inflight_tasks=most, dynamic_sampling=True, max_refills=2
    )

    def run(speed: int) -> list[Any]:
        source, engine = start(settings, partial(pause, speed))
        steps: list[Any] = []
        for step in range(7):
            source.next(step)
            steps.append(played(source))
            engine.version = step + 1
        steps.append(source.sampler.state())
        source.close()
        return steps

    expected = run(0)
    assert sum(name.startswith("r") for step in expected[:-1] for name, *_ in step) > 20
    assert run(1) == run(2) == expected


@pytest.mark.parametrize("most", [None, 1])
def test_a_restored_source_goes_on_as_if_nothing_had_happened(most: int | None, tmp_path: Path) -> None:
    """Restarts that were drawn before the checkpoint go on from where they were drawn, played by then or not."""
    settings = Restarts(share=0.7, decay_steps=20, max_staleness=2, max_inflight_tasks=most)

    def run(source: RolloutSource, engine: ScriptedEngine, first: int) -> tuple[list[Any], Any]:
        steps, state = [], None
        for step in range(first, 8):
            rows = source.next(step)
            aio.wait(source.scheduler._settled())
            engine.version = step + 1
            steps.append([played(source), rows if most is None else [], dict(source.metrics)])
            if most is not None:  # which weights play is then a matter of time
                steps[-1][2] = {key: value for key, value in source.metrics.items() if "/lag_" not in key}
            if step == 3:
                state_file.write(tmp_path, source.state())
                state = state_file.read(tmp_path)
        source.close()
        return steps, state

    whole, state = run(*start(settings), first=0)
    waiting = [name for name in state["scheduler"]["drawn"] if name.startswith("r")]
    assert len(waiting) >= 3
    assert waiting == list(state["sampler"]["outstanding"])
    if most is not None:
        assert len(state["scheduler"]["pending"]) < len(state["scheduler"]["drawn"]), "some are not begun yet"
    source, engine = start(settings)
    engine.version = 4
    source.restore(state)
    state_file.write(tmp_path, source.state())
    assert state_file.read(tmp_path) == state
    assert run(source, engine, first=4)[0] == whole[4:]


def test_ranks_agree() -> None:
    settings = Restarts(share=0.6, decay_steps=12, max_staleness=1)

    def run(rank: tuple[int, int], gather: Gather) -> list[Any]:
        source, engine = start(settings, lambda name: 0.003 * rank[0], rank, gather)
        steps = []
        for step in range(5):
            steps.append([source.next(step), source.state()])
            engine.version = step + 1
        return steps

    alone, both = on_ranks(1, run), on_ranks(2, run)
    assert both[0] == both[1] == alone[0]


def test_a_value_follows_the_snapshot_while_its_restarts_are_played() -> None:
    """Two groups of one snapshot worth 0.5: the first comes back with 0 of 2, the second with 2 of 2."""
    fresh = FreshSampler(SUMS, 0)
    beginning = [Snapshot("p1", (1, 2), 0.5)]
    sampler = RestartSampler(
        fresh, LineCuts(CHAT, 24, None, 0), share=lambda _: 0.5, snapshots=beginning, max_snapshots=1
    )
    draws = sampler.next(4, step=0)
    assert [draw.name for draw in draws] == [*(f"{i}/{draws[i].problem.id}" for i in (0, 1)), "r0/p1@2", "r1/p1@2"]
    values = []
    for step, draw in enumerate(draws[2:]):
        score = Score(float(step), "correct" if step else "wrong")
        group = [Trajectory(problem=draw.problem, turns=[], status="done", score=score, group=draw.name)] * 2
        values.append(sampler.observe(step, [(draw, group)])["restarts/value"])
        values.append(sampler.snapshots[0].value)
    assert values == [0.5, 0.0, 0.0, 1.0]
    assert sampler.outstanding == {}


@pytest.mark.parametrize("plugin", [Asynchronous, Restarts])
def test_options_out_of_range_are_refused(plugin: type[Asynchronous]) -> None:
    with pytest.raises(ValueError, match="max_staleness must be at least 0"):
        plugin(max_staleness=-1)
    with pytest.raises(ValueError, match="max_inflight_tasks at least 1"):
        plugin(max_inflight_tasks=0)
