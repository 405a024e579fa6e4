"""The second grader: what it compares, when it warns, and that it goes on where it was."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from llmrl.recipe import AuditOptions
from llmrl.scoring.manager import GradingPool
from llmrl.train.gold_reward import GoldReward
from llmrl.types import Problem, Score, Trajectory
from tests import builders

Groups = list[list[Trajectory]]


@dataclass(frozen=True)
class Told:
    """Reward that the problem gives for an episode."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        assert all(one.score is None for one in group), "it judges for itself"
        return [
            Score(None, "error", reason="no idea") if (v := one.problem.info["truth"]) is None else Score(v)
            for one in group
        ]


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    pool = GradingPool(1, 2.0)
    yield pool
    pool.close()


@pytest.fixture
def audit(pool: GradingPool) -> Callable[..., GoldReward]:
    def make(seed: int = 0, rank: tuple[int, int] = (0, 1), **options: Any) -> GoldReward:
        chosen = AuditOptions(reward=Told(), **{"share": 1.0, "window": 4, **options})
        return GoldReward(chosen, pool, seed=seed, rank=rank)

    return make


def played(proxy: float | None, truth: float | None, name: str = "g", episode: int = 0, **score: Any) -> Trajectory:
    problem = Problem(id="p", messages=(), info={"truth": truth})
    turn = builders.turn("a", [1, 2])
    return builders.episode(turn, problem=problem, score=Score(proxy, **score), group=name, episode=episode)


def step(proxy: float | None, truth: float | None) -> Groups:
    return [[played(proxy, truth)]]


def run(audit: GoldReward, proxies: Sequence[float], truths: Sequence[float], start: int = 0) -> list[dict[str, float]]:
    return [audit(start + i, step(p, t)) for i, (p, t) in enumerate(zip(proxies, truths, strict=True))]


UP, DOWN = [0.0, 1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0, 0.0]


def test_an_alarm_once_the_window_is_full(audit: Callable[..., GoldReward], caplog: pytest.LogCaptureFixture) -> None:
    one = audit()
    with caplog.at_level(logging.WARNING):
        lines = run(one, UP, DOWN)
    assert [line.get("audit/alarm") for line in lines] == [None, None, None, 1.0, 1.0]
    assert lines[3]["audit/divergence"] > 2.0
    assert (lines[3]["audit/proxy_mean"], lines[3]["audit/true_mean"], lines[3]["audit/episodes"]) == (3.0, 1.0, 1.0)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("step 3: since step 0 the training reward rose from 0.5 to 2.5 while the gold reward ")
    assert "fell from 3.5 to 1.5: likely reward hacking. " in said
    assert "llmrl audit-reward" in said, "what to do"


@pytest.mark.parametrize(("proxy", "truth"), [(UP, UP), (DOWN, DOWN), (DOWN, UP), ([1.0] * 5, DOWN)])
def test_no_alarm_otherwise(audit: Callable[..., GoldReward], proxy: list[float], truth: list[float]) -> None:
    one = audit()
    assert {line.get("audit/alarm", 0.0) for line in run(one, proxy, truth)} == {0.0}
    assert not one.stops


def test_it_stops_only_where_it_is_told_to(audit: Callable[..., GoldReward]) -> None:
    for stop in (False, True):
        one = audit(stop=stop)
        run(one, UP, DOWN)
        assert one.alarm
        assert one.stops is stop


@pytest.mark.parametrize("cut", range(5))
def test_a_resumed_audit_gives_the_same_alarms(
    audit: Callable[..., GoldReward], cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    whole, first, second = audit(), audit(), audit()
    expected = run(whole, UP, DOWN)
    warned = len(caplog.records)
    caplog.clear()
    found = run(first, UP[:cut], DOWN[:cut])
    second.restore(json.loads(json.dumps(first.state())))
    assert found + run(second, UP[cut:], DOWN[cut:], cut) == expected
    assert len(caplog.records) == warned, "it warns once, whenever it was stopped"


def test_the_share_is_chosen_by_what_is_played(audit: Callable[..., GoldReward]) -> None:
    groups = [[played(1.0, 1.0, f"g{i}", episode) for episode in range(8)] for i in range(25)]
    chosen = []
    for seed in (0, 0, 1):
        one = audit(seed, share=0.25)
        assert one(3, groups)["audit/episodes"] == len(one.scores)
        chosen.append(set(one.scores))
    assert chosen[0] == chosen[1] != chosen[2]
    assert 30 <= len(chosen[0]) <= 70
    one = audit(0, share=0.25)
    one(4, groups)
    assert set(one.scores) != chosen[0], "other episodes in other steps"


def test_what_neither_can_say_is_not_compared(
    audit: Callable[..., GoldReward], caplog: pytest.LogCaptureFixture
) -> None:
    groups = [
        [played(1.0, None), played(1.0, 0.5, episode=1), played(None, 0.5, episode=2), played(0.0, None, episode=3)]
    ]
    line = audit()(0, groups)
    assert (line["audit/episodes"], line["audit/true_mean"]) == (3.0, 0.5)
    assert line["audit/unjudged_frac"] == pytest.approx(2 / 3)
    assert "gave no value for 2 of 3 episodes: no idea" in caplog.text


def test_what_was_paid_holds_dense_rewards(audit: Callable[..., GoldReward]) -> None:
    line = audit()(0, [[played(1.0, 0.0, token_rewards=[0.25, 0.5])]])
    assert line["audit/proxy_mean"] == 1.75


def test_steps_between_and_runs_without_an_audit_have_no_metrics(
    audit: Callable[..., GoldReward], pool: GradingPool
) -> None:
    one = audit(every=2)
    assert [bool(line) for line in run(one, UP, DOWN)] == [True, False, True, False, True]
    none = GoldReward(AuditOptions(), pool, seed=0, rank=(0, 1))
    assert none(0, step(1.0, 0.0)) == {}
    assert none.scores == {}


def test_all_ranks_see_what_the_main_process_graded(
    audit: Callable[..., GoldReward], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []

    def gather(items: list[Any], world: int) -> list[Any]:
        """Gather of two ranks, asked one after the other, the main process first."""
        assert world == 2
        sent.extend(items)
        return [sent[-2 if len(sent) % 2 == 0 else -1]]

    monkeypatch.setattr("llmrl.train.gold_reward.gather", gather)
    ranks = [audit(rank=(rank, 2), stop=True) for rank in range(2)]
    for number, (proxy, truth) in enumerate(zip(UP, DOWN, strict=True)):
        first, second = (one(number, step(proxy, truth)) for one in ranks)
        assert first == second
    assert ranks[0].state() == ranks[1].state()
    assert [one.stops for one in ranks] == [True, True]
    assert not ranks[1].scores, "it graded nothing itself"


@dataclass(frozen=True)
class Late(Told):
    """The last group is scored first."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        for _ in range(20 - 4 * len(group)):
            await asyncio.sleep(0)
        return await super().score(group)


def test_scores_belong_to_their_episodes_in_whatever_order_they_come(pool: GradingPool) -> None:
    """Two draws of one problem in a step, of one and of three episodes; proxies and truths all differ."""
    options = AuditOptions(reward=Late(), share=1.0, window=4)
    made = GoldReward(options, pool, seed=0, rank=(0, 1))
    groups = [[played(0.5, 0.1, "0/p")], [played(float(n), 0.2 + n / 10, "1/p", n) for n in range(3)]]
    metrics = made(0, groups)
    assert {key: score.value for key, score in made.scores.items()} == {
        ("0/p", 0): 0.1,
        **{("1/p", n): pytest.approx(0.2 + n / 10) for n in range(3)},
    }
    assert metrics["audit/episodes"] == 4.0
