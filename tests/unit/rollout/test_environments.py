"""Environments that hang, block, crash and do not close: what it costs, and what it does not."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from llmrl.aio import wait
from llmrl.chat import Chat
from llmrl.errors import RecipeError
from llmrl.recipe import RolloutOptions
from llmrl.rewards.environment import Environment
from llmrl.rollout.samples import to_samples
from llmrl.rollout.worker import RolloutWorker
from llmrl.scoring.manager import GroupReward
from llmrl.tiny import make_tokenizer
from llmrl.types import Problem, Trajectory
from tests.builders import scripted_worker
from tests.unit.rollout.hostile import Counting, Hostiles

TOKENIZER = make_tokenizer()
ASK = [{"role": "user", "content": "?"}]


def worker(env: Any = None, **options: Any) -> RolloutWorker:
    given = {"num_generations": 2, "prompts_per_step": 1, "max_turns": 4, "env_timeout_s": 0.3} | options
    reward = GroupReward("environment", reward=Environment(), timeout_s=5.0)
    return scripted_worker(Chat(TOKENIZER), ("a",), reward, RolloutOptions(**given), env or Hostiles())


def problem(does: Mapping[str, str] | None = None, number: int = 0, **info: Any) -> Problem:
    return Problem(id=f"p{number}", messages=ASK, info={"does": dict(does or {}), **info})


def episode(does: Mapping[str, str], **options: Any) -> Trajectory:
    return wait(worker(**options).run_group(problem(does, **options.pop("info", {})), "g"))[0]


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
def test_an_episode_is_the_same_in_every_place(isolation: Any) -> None:
    played = wait(worker(env_isolation=isolation).run_episode(problem(), "g", 0))
    assert (played.status, played.verdict, played.reason) == ("done", "correct", "")
    assert [turn.reward for turn in played.turns] == [0.5, 0.5, 1.0]
    assert (played.metrics["pid"] != os.getpid()) == (isolation == "process")


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
@pytest.mark.parametrize("does", ["hang", "raise"])
def test_what_was_finished_before_a_fault_is_kept(isolation: Any, does: str) -> None:
    played = episode({"step 2": does}, env_isolation=isolation)
    assert played.status == "error"
    assert (
        "step took longer than 0.3 s (rollout.env_timeout_s)" if does == "hang" else "step 2 broke"
    ) in played.reason
    assert [turn.reward for turn in played.turns] == [0.5, 0.0], "the message that met the fault stands, unanswered"
    assert (played.earned, to_samples(played)) == (None, [])


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_an_environment_that_blocks_stops_nobody_else(isolation: Any) -> None:
    player = worker(env_isolation=isolation, env_timeout_s=1.0)
    wait(player.run_episode(problem(), "warm", 0))  # a process imports what it needs

    async def both() -> tuple[Trajectory, float, Trajectory]:
        start = time.monotonic()
        blocked = asyncio.ensure_future(player.run_episode(problem({"step 1": "block"}, seconds=4.0), "g", 0))
        await asyncio.sleep(0.05)
        free = await player.run_episode(problem(), "g", 1)
        seconds = time.monotonic() - start
        return await blocked, seconds, free

    blocked, seconds, free = wait(both())
    assert (blocked.status, free.status) == ("error", "done")
    assert seconds < 20, "started beside the one that blocks"


def test_a_process_that_dies_is_replaced_and_one_that_serves_is_used_again() -> None:
    player = worker(env_isolation="process", max_open_envs=1)
    pids = [wait(player.run_episode(problem(), "g", i)).metrics["pid"] for i in range(2)]
    assert pids[0] == pids[1]
    died = wait(player.run_episode(problem({"step 2": "die"}), "g", 2))
    assert (died.status, len(died.turns)) == ("error", 2)
    assert "exit code 3" in died.reason
    assert wait(player.run_episode(problem(), "g", 3)).metrics["pid"] not in pids


def test_a_hang_is_killed_with_its_process() -> None:
    player = worker(env_isolation="process", max_open_envs=1)
    pid = int(wait(player.run_episode(problem(), "g", 0)).metrics["pid"])
    hung = wait(player.run_episode(problem({"step 1": "block"}), "g", 1))
    assert "its process was killed" in hung.reason
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_cannot_be_sent_to_a_process_is_refused() -> None:
    class Local(Hostiles):
        pass

    with pytest.raises(RecipeError, match=r"rollout.env_isolation process: .*env_isolation=thread"):
        wait(worker(Local(), env_isolation="process").run_episode(problem(), "g", 0))


def test_a_failing_close_costs_nothing_that_was_finished() -> None:
    for does, words in (("raise", "OSError: close broke"), ("hang", "close took longer than 0.3 s")):
        played = episode({"close": does})
        assert (played.status, played.earned) == ("done", 2.0)
        assert words in played.reason
        assert len(to_samples(played)) == 1


def test_a_whole_episode_has_a_limit() -> None:
    played = wait(worker(env_timeout_s=60.0, episode_timeout_s=0.2).run_group(problem({"step 2": "hang"}), "g"))[0]
    assert (played.status, len(played.turns)) == ("error", 2)
    assert played.reason == "TimeoutError: it took longer than 0.2 s (rollout.episode_timeout_s)"


@pytest.mark.parametrize(("own", "recipe", "most"), [(None, None, 12), (None, 3, 3), (4, None, 4), (4, 2, 2)])
def test_no_more_are_open_than_allowed(own: int | None, recipe: int | None, most: int) -> None:
    env = Counting(own)
    limits = {"max_open_envs": recipe, "env_timeout_s": 60.0}  # a busy machine is no fault of the environment
    played = wait(worker(env, num_generations=12, **limits).run_group(problem(), "g"))
    assert {one.status for one in played} == {"done"}
    assert (env.most, env.open) == (most, 0)


def test_options_out_of_range_are_refused() -> None:
    for wrong in ({"max_open_envs": 0}, {"env_timeout_s": 0.0}, {"episode_timeout_s": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RolloutOptions(**wrong)  # type: ignore[arg-type]


FAULTS = ({"reset": "hang"}, {"step 2": "raise"}, {"close": "raise"})


def test_of_512_episodes_with_faults_none_is_lost() -> None:
    """5 % each hang in `reset`, crash at turn 2 and fail to close; the step ends within a few limits of a call."""
    player = worker(num_generations=8, max_open_envs=64, env_timeout_s=0.5)
    faulty = {number: FAULTS[number % 3] for number in range(0, 512, 7)}  # 74 episodes, 14.5 %

    async def group(number: int) -> list[Trajectory]:
        episodes = (
            player.run_episode(problem(faulty.get(8 * number + i), 8 * number + i), f"g{number}", i) for i in range(8)
        )
        return list(await asyncio.gather(*episodes))

    async def step() -> list[list[Trajectory]]:
        return list(await asyncio.gather(*map(group, range(64))))

    start = time.monotonic()
    groups = wait(step())
    seconds = time.monotonic() - start
    played = {one.problem.id: one for group in groups for one in group}
    assert len(played) == 512
    for number in range(512):
        one, fault = played[f"p{number}"], faulty.get(number, {})
        assert one.status == ("error" if {"reset", "step 2"} & set(fault) else "done")
        assert len(one.turns) == (0 if "reset" in fault else 2 if "step 2" in fault else 3)
        assert bool(one.reason) == bool(fault)
    assert seconds < 30, "25 hangs of 0.5 s, 64 episodes at a time"


def test_a_group_goes_on_with_the_others() -> None:
    """The second of three breaks at turn 2: the others are compared, and its turns are kept."""
    player = worker(num_generations=1)

    async def play() -> list[Trajectory]:
        groups = [await player.run_group(problem(does, i), "g") for i, does in enumerate([{}, {"step 2": "raise"}, {}])]
        return [replace(one, episode=i) for i, (one,) in enumerate(groups)]

    broken = wait(play())
    assert [one.earned for one in broken] == [2.0, None, 2.0]
    assert [len(to_samples(one)) for one in broken] == [1, 0, 1]
