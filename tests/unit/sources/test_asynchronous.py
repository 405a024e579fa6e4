from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar, cast

import pytest

from llmrl import aio
from llmrl.chat import Chat
from llmrl.engines.scripted import ScriptedEngine
from llmrl.errors import EngineError
from llmrl.recipe import RolloutOptions
from llmrl.rollout.context import Groups
from llmrl.rollout.scheduler import capacity
from llmrl.rollout.source import RolloutSource
from llmrl.rollout.worker import RolloutWorker
from llmrl.sources.asynchronous import Asynchronous
from llmrl.sources.online import Online
from llmrl.tiny import make_tokenizer
from llmrl.train import state_file
from llmrl.types import Problem, Sampling, Score, Trajectory
from tests.builders import SUMS, Gather, Grader, episode, on_ranks, scripted_worker, source_context, turn

OPTIONS = RolloutOptions(prompts_per_step=3, num_generations=2)
TOKENIZER = make_tokenizer()
ODD = Grader(lambda one: len(one.text) % 2 == 1)
"""Right in every group for the episodes whose text is odd."""


def speaker(replies: Any, concurrent: bool = True) -> RolloutWorker:
    """A real player, whose engine says what `replies` says."""
    return scripted_worker(Chat(TOKENIZER), replies, ODD, OPTIONS, concurrent=concurrent)


def seeded(prompt: str, sampling: Sampling) -> str:
    assert sampling.seed is not None
    return prompt[8:11] + "x" * (sampling.seed % 5)


@dataclass
class Plays:
    """In place of a `RolloutWorker`: groups last as long as `last` says, and carry the version at which they began."""

    breaks: ClassVar[str] = "environment"
    last: Callable[[str], float] = lambda _: 0.0  # seconds, by name
    judge: Callable[[str], tuple[Score, Score]] = lambda _: (Score(1.0, "correct"), Score(0.0, "wrong"))
    version: int = 0
    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    most: int = 0  # at once

    async def run_group(self, problem: Problem, name: str, prefix_ids: Sequence[int] = ()) -> list[Trajectory]:
        version = self.version
        self.begun.append(name)
        self.most = max(self.most, len(self.begun) - len(self.ended))
        await asyncio.sleep(self.last(name))
        self.ended.append(name)
        said = turn("", [2, 3], prompt=[1], logprobs=[-1.0, -1.0], version=version)
        return [
            episode(said, problem=problem, score=score, group=name, episode=i)
            for i, score in enumerate(self.judge(name))
        ]


def start(
    player: Any,
    settings: Online,
    rank: tuple[int, int] = (0, 1),
    gather: Callable[[Groups], Groups] = lambda groups: groups,
) -> Any:
    return settings.start(source_context(player, SUMS, OPTIONS, rank=rank, gather=gather))


def steps(source: RolloutSource, count: int, plays: Plays) -> list[Any]:
    """The rows of each step, the player's weights changing after each as a trainer changes them."""
    made = []
    for step in range(count):
        made.append(source.next(step))
        plays.version = step + 1
    return made


def state(position: int) -> dict[str, Any]:
    """State of a source that has nothing in its queue."""
    return {"sampler": {"position": position}, "scheduler": {"drawn": [], "pending": []}}


def names(rows: Any) -> list[str]:
    return list(dict.fromkeys(row.group for row in rows))


def stored(state: Any, folder: Path) -> Any:
    """A source's state, written by a checkpoint and read again."""
    state_file.write(folder, state)
    return state_file.read(folder)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# The rule


def test_after_a_resume_what_earlier_steps_took_counts_as_accepted() -> None:
    """With `accepted` 0 at version 10 the rule would admit a burst of eleven batches."""
    rule = {"max_concurrent": 1000.0, "running": 0, "max_staleness": 1, "version": 10, "batch": 32}
    assert capacity(**rule, accepted=10 * 32) == 64  # type: ignore[arg-type]
    plays = Plays(version=10)
    source = start(plays, Asynchronous(max_staleness=1))
    source.restore(state(position=30))
    source.next(10)
    until(lambda: len(plays.ended) == 6)  # of steps 10 and 11
    source.close()


# Synchronous at 0


@pytest.mark.parametrize("options", [{}, {"dynamic_sampling": True, "max_refills": 2}])
@pytest.mark.parametrize("replies", [seeded, ["a", "bb", "c", "dd", "ee"]], ids=["seeds", "order of the calls"])
def test_without_staleness_it_is_the_synchronous_source(options: dict[str, Any], replies: Any) -> None:
    sync, other = speaker(replies, concurrent=False), speaker(replies, concurrent=False)
    expected, found = start(sync, Online(**options)), start(other, Asynchronous(**options, max_staleness=0))
    for step in range(6):
        for run in (sync, other):
            cast(ScriptedEngine, run.engine).version = step
        assert found.next(step) == expected.next(step)
        assert found.played == expected.played
        assert found.state() == expected.state()
    assert cast(Any, other.engine).calls == cast(Any, sync.engine).calls
    assert threading.active_count() == 1 or not any(t.name == "llmrl-aio" for t in threading.enumerate())


# Playing ahead


def test_the_next_steps_groups_are_played_while_nobody_waits() -> None:
    plays = Plays(last=lambda name: 0.02)
    source = start(plays, Asynchronous(max_staleness=1))
    first = source.next(0)
    assert len(names(first)) == 3
    assert len(plays.begun) == 6
    until(lambda: len(plays.ended) == 6)  # the trainer learns meanwhile, and waits for nothing
    plays.version = 1
    second = source.next(1)
    assert {row.version for row in first} == {row.version for row in second} == {0}
    assert len(plays.begun) == 9
    source.close()


@pytest.mark.parametrize("bound", [1, 2, 3])
def test_each_step_learns_from_weights_as_old_as_allowed(bound: int) -> None:
    plays = Plays()
    source = start(plays, Asynchronous(max_staleness=bound))
    lags = []
    for step in range(6):
        rows = source.next(step)
        lags.append({step - row.version for row in rows})
        assert source.metrics[f"staleness/lag_{max(lags[-1])}/frac"] == 1.0
        until(lambda: len(plays.ended) == len(plays.begun))
        plays.version = step + 1
    assert lags == [{min(step, bound)} for step in range(6)]
    source.close()


def test_slow_groups_keep_their_turn() -> None:
    """Every other group takes long; a source that took what had ended would learn from the fast ones first."""
    plays = Plays(last=lambda name: 0.03 if int(name.partition("/")[0]) % 2 else 0.0)
    source = start(plays, Asynchronous(max_staleness=2))
    found = steps(source, 4, plays)
    assert [int(name.partition("/")[0]) for rows in found for name in names(rows)] == list(range(12))
    assert [row.group for row in found[0]] == sorted([row.group for row in found[0]])
    assert plays.ended != plays.begun, "the order of ending was another"
    source.close()


@pytest.mark.parametrize("seed", range(4))
def test_the_bound_holds_whatever_is_slow_refused_or_limited(seed: int) -> None:
    draw = Random(seed)
    bound, most = draw.choice([1, 2]), draw.choice([None, 1, 2, 4])

    def judge(name: str) -> tuple[Score, Score]:
        alike = Random(f"{seed}/{name}").random() < 0.4
        return Score(1.0, "correct"), Score(1.0, "correct") if alike else Score(0.0, "wrong")

    plays = Plays(last=lambda name: Random(f"{seed}:{name}").choice([0.0, 0.0, 0.01]), judge=judge)
    source = start(plays, Asynchronous(True, max_refills=2, max_staleness=bound, max_inflight_tasks=most))
    played: list[str] = []
    for step in range(8):
        rows = source.next(step)
        played += [group[0].group for group in source.played]
        assert all(0 <= step - row.version <= bound for row in rows)
        assert source.metrics["staleness/dropped"] == 0
        plays.version = step + 1
    assert [int(name.partition("/")[0]) for name in played] == list(range(len(played))), "nothing lost, nothing twice"
    assert most is None or plays.most <= most
    source.close()


def test_what_the_engine_says_is_too_old_is_counted_and_replaced() -> None:
    plays = Plays(version=3)
    source = start(plays, Asynchronous(max_staleness=1))
    source.restore(state(position=0))
    source.next(3)
    until(lambda: len(plays.ended) == 6)
    plays.version = 1  # a server that missed four loads
    rows = source.next(6)  # the three begun at version 3 are too old as well
    assert rows == []
    assert len(source.played) == 3 * 11, "max_refills"
    assert source.metrics["staleness/dropped"] == 33
    assert source.metrics["staleness/dropped/mean_length"] == 2.0
    assert source.metrics["staleness/dropped/accuracy"] == 0.5
    source.close()


# Ranks


def together(ranks: int, count: int, settings: Asynchronous) -> list[Any]:
    """Samples of each rank: `ranks` sources on threads."""
    aio.background()

    def run(place: tuple[int, int], gather: Gather) -> list[Any]:
        rank = place[0]
        plays = Plays(last=lambda name: 0.005 * (len(name) + rank) if rank else 0.0)
        source = start(plays, settings, place, gather)
        found = []
        for step in range(count):
            found.append([source.next(step), sorted(json.dumps(g) for g in source.state()["scheduler"]["pending"])])
            plays.version = step + 1
        found.append(plays.begun)
        return found

    return on_ranks(ranks, run)


@pytest.mark.parametrize("bound", [0, 1, 2])
def test_ranks_share_the_work_and_agree_on_every_step(bound: int) -> None:
    settings = Asynchronous(max_staleness=bound)
    alone, both = together(1, 4, settings), together(2, 4, settings)
    assert both[0][:-1] == both[1][:-1] == alone[0][:-1]
    assert not set(both[0][-1]) & set(both[1][-1]), "no group is played twice"


def test_each_rank_may_play_one_group_at_once() -> None:
    """The weights that play are then a matter of time; who is played, and that both ranks know it, is not."""
    one, two = together(2, 4, Asynchronous(max_staleness=1, max_inflight_tasks=1))
    assert one[:-1] == two[:-1]
    played = [names(samples) for samples, _ in one[:-1]]
    assert [int(name.partition("/")[0]) for step in played for name in step] == list(range(12))


# Resume


@pytest.mark.parametrize("options", [{}, {"dynamic_sampling": True, "max_refills": 2}])
def test_a_restored_source_goes_on_as_if_nothing_had_happened(options: dict[str, Any], tmp_path: Path) -> None:
    """The steps after the checkpoint learn from the very episodes that were begun before it, older weights and all."""
    settings = Asynchronous(**options, max_staleness=2)

    def play(source: RolloutSource, player: RolloutWorker, first: int, last: int, save_at: int) -> tuple[Any, Any]:
        rows, saved, calls = [], None, cast(ScriptedEngine, player.engine).calls
        for step in range(first, last):
            rows.append(source.next(step))
            aio.wait(source.scheduler._settled())
            cast(ScriptedEngine, player.engine).version = step + 1
            if step + 1 == save_at:
                saved = {**stored(source.state(), tmp_path), "calls": len(calls)}
        source.close()
        return rows, saved

    one = speaker(seeded)
    whole, saved = play(start(one, settings), one, 0, 7, save_at=3)
    assert len(saved["scheduler"]["pending"]) >= 6
    two = speaker(seeded)
    cast(ScriptedEngine, two.engine).version = 3
    again = start(two, settings)
    again.restore(saved)
    assert play(again, two, 3, 7, save_at=7)[0] == whole[3:]
    assert {row.version for row in whole[3]} <= {1, 2}
    before, after = cast(ScriptedEngine, one.engine).calls, cast(ScriptedEngine, two.engine).calls
    assert after == before[saved["calls"] :], "nothing that the checkpoint kept is played again"


def test_a_checkpoint_waits_for_what_is_being_played() -> None:
    plays = Plays(last=lambda name: 0.03)
    source = start(plays, Asynchronous(max_staleness=1))
    source.next(0)
    assert len(source.state()["scheduler"]["pending"]) == 3
    assert len(plays.ended) == 6
    source.close()


def test_token_versions_survive_a_checkpoint(tmp_path: Path) -> None:
    class Changed(Plays):
        async def run_group(self, problem: Problem, name: str, prefix_ids: Sequence[int] = ()) -> list[Trajectory]:
            said = turn("a", [2, 3], prompt=[1], logprobs=[-1.0] * 2, versions=[0, 1])
            return [episode(said, problem=problem, score=Score(1.0), group=name)]

    first = start(Changed(), Asynchronous(max_staleness=1))
    first.next(0)
    again = start(Changed(), Asynchronous(max_staleness=1))
    again.restore(stored(first.state(), tmp_path))
    again.next(1)
    assert again.played[0][0].turns[0].completion.versions == [0, 1]
    first.close()
    again.close()


# What goes wrong


class Broken(Plays):
    """The fifth group of the stream cannot be played."""

    async def run_group(self, problem: Problem, name: str, prefix_ids: Sequence[int] = ()) -> list[Trajectory]:
        if name.startswith("4/"):
            raise EngineError("the server is gone")
        return await super().run_group(problem, name)


def test_what_breaks_in_the_background_is_raised_when_its_turn_comes() -> None:
    source = start(Broken(), Asynchronous(max_staleness=1))
    source.next(0)
    with pytest.raises(EngineError, match="the server is gone"):
        source.next(1)
    source.close()


@pytest.mark.parametrize("settings", [Online(), Asynchronous(max_staleness=1)], ids=["online", "asynchronous"])
def test_a_step_that_cannot_end_waits_for_nothing(settings: Online) -> None:
    source = start(Broken(last=lambda name: 3600.0 if name.startswith("3/") else 0.0), settings)
    source.next(0)
    with pytest.raises(EngineError, match="the server is gone"):
        source.next(1)
    source.close()


def test_close_ends_what_is_being_played() -> None:
    plays = Plays(last=lambda name: 0.0 if int(name.partition("/")[0]) < 3 else 3600.0)
    source = start(plays, Asynchronous(max_staleness=1))
    source.next(0)
    until(lambda: len(plays.begun) == 6)
    source.close()
    source.close()
    assert len(plays.ended) == 3
    assert not any(thread.name == "llmrl-aio" for thread in threading.enumerate())


def test_an_engine_that_sleeps_cannot_be_played_ahead() -> None:
    """The reason for which the recipe refuses the pair: what would be lost here is lost loudly."""
    run = speaker(seeded, concurrent=False)
    source = start(run, Asynchronous(max_staleness=1, max_inflight_tasks=1))
    source.next(0)
    run.engine.sleep()
    with pytest.raises(EngineError, match="asleep"):
        source.next(1)
    source.close()
