from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from llmrl import aio
from llmrl.errors import DataError
from llmrl.recipe import RolloutOptions
from llmrl.rollout.context import Groups
from llmrl.rollout.source import RolloutSource
from llmrl.sources.asynchronous import Asynchronous
from llmrl.sources.online import Online
from llmrl.types import Problem, Score, Trajectory
from tests.builders import Gather, episode, on_ranks, source_context, turn

PROBLEMS = [Problem(id=f"p{i}", messages=[{"role": "user", "content": str(i)}]) for i in range(5)]
OPTIONS = RolloutOptions(prompts_per_step=3, num_generations=2)
SPREAD = (Score(1.0, "correct"), Score(0.0, "wrong"))
ALIKE = (Score(1.0, "correct"), Score(1.0, "correct"))


class Plays:
    """In place of a `RolloutWorker`: every group has the two scores that `judge` says; remembers what it played."""

    breaks: ClassVar[str] = "environment"

    def __init__(self, judge: Callable[[Problem], tuple[Score, Score]] = lambda _: SPREAD) -> None:
        self.judge = judge
        self.rounds: list[list[str]] = [[]]  # a round ends when the ranks exchange what they played

    async def run_group(self, problem: Problem, name: str, prefix_ids: Sequence[int] = ()) -> list[Trajectory]:
        assert not prefix_ids
        self.rounds[-1].append(name)
        one = turn("", [2], prompt=[1], logprobs=[-1.0])
        return [
            episode(one, problem=problem, score=score, group=name, episode=i)
            for i, score in enumerate(self.judge(problem))
        ]


def start(
    plays: Plays,
    settings: Online | None = None,
    rank: tuple[int, int] = (0, 1),
    gather: Callable[[Groups], Groups] = lambda groups: groups,
    seed: int = 0,
) -> RolloutSource:
    def exchange(groups: Groups) -> Groups:
        plays.rounds.append([])
        return gather(groups)

    context = source_context(plays, PROBLEMS, OPTIONS, seed=seed, rank=rank, gather=exchange)
    return (settings or Online()).start(context)


def names(rows: Sequence[Any]) -> list[str]:
    """The groups, in order, each once."""
    return list(dict.fromkeys(row.group for row in rows))


def test_every_epoch_has_each_problem_once_in_a_new_order() -> None:
    fresh = start(Plays())
    drawn = [name for step in range(5) for name in names(fresh.next(step))]  # 15 draws of 5 problems
    assert [int(name.partition("/")[0]) for name in drawn] == list(range(15))
    epochs = [[name.partition("/")[2] for name in drawn[i : i + 5]] for i in (0, 5, 10)]
    assert all(sorted(epoch) == [problem.id for problem in PROBLEMS] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert [name for step in range(5) for name in names(start(Plays(), seed=1).next(step))] != drawn


def test_rows_carry_group_episode_and_score() -> None:
    rows = start(Plays()).next(0)
    assert [(row.episode, row.reward, row.correct) for row in rows[:2]] == [(0, 1.0, True), (1, 0.0, False)]
    assert len(rows) == 6


def together(ranks: int, steps: int, settings: Online, judge: Callable[[Problem], tuple[Score, Score]]) -> list[Any]:
    """Samples of each rank by step: `ranks` sources on threads."""

    def run(rank: tuple[int, int], gather: Gather) -> list[list[Any]]:
        fresh = start(Plays(judge), settings, rank, gather)
        return [[fresh.next(step), fresh.state(), fresh.refills] for step in range(steps)]

    return on_ranks(ranks, run)


@pytest.mark.parametrize("settings", [Online(), Online(dynamic_sampling=True, max_refills=2)])
def test_ranks_share_the_work_and_all_get_the_rows_of_one(settings: Online) -> None:
    aio.background()  # here every rank is a thread

    def judge(problem: Problem) -> tuple[Score, Score]:
        return ALIKE if problem.id in ("p1", "p2") else SPREAD

    alone = together(1, 4, settings, judge)[0]
    both = together(2, 4, settings, judge)
    assert both[0] == both[1] == alone
    assert together(4, 4, settings, judge)[3] == alone, "more ranks than groups"


def test_no_two_ranks_play_the_same_group() -> None:
    played: list[list[str]] = []

    def gather(groups: Groups) -> Groups:
        played.append([group[0].group for group in groups])
        raise InterruptedError  # there is no other rank to wait for

    for rank in range(2):
        with pytest.raises(InterruptedError):
            start(Plays(), rank=(rank, 2), gather=gather).next(0)
    assert [len(round_) for round_ in played] == [2, 1]
    assert not set(played[0]) & set(played[1])


# Dynamic sampling


def test_groups_that_teach_nothing_are_replaced_by_the_next_of_the_stream() -> None:
    plays = Plays(lambda problem: ALIKE if problem.id == "p0" else SPREAD)
    fresh = start(plays, Online(dynamic_sampling=True))
    rows = [fresh.next(0), fresh.next(1)]
    assert all(len(names(step)) == 3 for step in rows)
    assert not any(name.endswith("/p0") for step in rows for name in names(step))
    drawn = [name for round_ in plays.rounds for name in round_]
    assert [int(name.partition("/")[0]) for name in drawn] == list(range(len(drawn))), "nothing is skipped or repeated"
    assert len(drawn) == 6 + sum(name.endswith("/p0") for name in drawn)


def test_what_was_refused_is_in_the_log() -> None:
    fresh = start(Plays(lambda _: ALIKE), Online(dynamic_sampling=True, max_refills=1))
    assert fresh.next(0) == []
    assert len(fresh.played) == 6
    assert fresh.refills == 1


def test_refills_are_bounded() -> None:
    plays = Plays(lambda _: ALIKE)
    fresh = start(plays, Online(dynamic_sampling=True, max_refills=4))
    assert fresh.next(0) == []
    assert [len(round_) for round_ in plays.rounds[:-1]] == [3] * 5
    assert fresh.state() == {"sampler": {"position": 15}, "scheduler": {"drawn": [], "pending": []}}


def test_only_what_is_missing_is_played_again() -> None:
    plays = Plays(lambda problem: ALIKE if problem.id in ("p0", "p1", "p2") else SPREAD)
    start(plays, Online(dynamic_sampling=True, max_refills=10)).next(0)
    kept = 0
    for played in plays.rounds[:-1]:
        assert len(played) == 3 - kept
        kept += sum(name[-2:] in ("p3", "p4") for name in played)
    assert kept == 3


# Resume


@pytest.mark.parametrize("settings", [Online(), Online(dynamic_sampling=True, max_refills=3)])
def test_a_restored_source_goes_on_as_if_nothing_had_happened(settings: Online) -> None:
    def judge(problem: Problem) -> tuple[Score, Score]:
        return ALIKE if problem.id in ("p1", "p3") else SPREAD

    through = start(Plays(judge), settings)
    whole = [through.next(step) for step in range(6)]
    before = start(Plays(judge), settings)
    for step in range(2):
        before.next(step)
    after = start(Plays(judge), settings)
    after.restore(before.state())
    assert [after.next(step) for step in range(2, 6)] == whole[2:]
    assert after.state() == through.state()


@pytest.mark.parametrize("settings", [Online(), Asynchronous()])
def test_no_problems_is_an_error(settings: Online) -> None:
    with pytest.raises(DataError, match="no problems; expected at least one"):
        settings.start(source_context(Plays(), [], OPTIONS))
