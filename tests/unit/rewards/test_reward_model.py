from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from llmrl.aio import wait
from llmrl.errors import CheckpointError, RewardError
from llmrl.plugins import build
from llmrl.reward_models import scorer
from llmrl.reward_models.card import Calibration, Card, Kind, write
from llmrl.reward_models.model import Scored
from llmrl.reward_models.rows import AnswerRow
from llmrl.reward_models.scorer import Scorer
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.scoring.transcript import before_last
from llmrl.types import Problem, Trajectory
from tests import builders


def card(folder: Path, kind: Kind = "outcome", calibration: Calibration | None = None) -> str:
    link: Any = "identity" if kind == "outcome" else "sigmoid"
    made = Card(kind=kind, link=link, template_sha256="t", backbone="b", backbone_sha256="b", weights_sha256="w",
                calibration=calibration)  # fmt: skip
    write(folder, made)
    return str(folder)


def trajectory(text: str) -> Trajectory:
    problem = Problem(id="p", messages=[{"role": "user", "content": "q"}], info={"level": 3})
    return builders.episode(builders.turn(text, [1] * len(text), prompt=[0]), problem=problem)


class ByLength:
    """In the place of a network: the logit of an answer is its length; one of "cut" was cut, one of "nan" is broken."""

    def __init__(self) -> None:
        self.batches: list[list[AnswerRow]] = []
        self.go = threading.Event()
        self.go.set()

    def sequences(self, answers: Sequence[AnswerRow]) -> list[Scored]:
        self.go.wait(10)
        self.batches.append(list(answers))
        special = {"cut": (None, 5), "nan": (float("nan"), 0)}
        return [Scored([special.get(a.response, (float(len(a.response)), 0))[0]], 7, 5 * (a.response == "cut"))
                for a in answers]  # fmt: skip


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[ByLength]:
    made = ByLength()
    monkeypatch.setattr(Scorer, "_loaded", lambda self: made)
    scorer.scorer.cache_clear()
    yield made
    scorer.scorer.cache_clear()


@pytest.fixture
def pool() -> Iterator[GradingPool]:
    with GradingPool(1, 1.0) as made:
        yield made


def values(path: str, pool: GradingPool, texts: Sequence[str], **options: Any) -> list[float | None]:
    reward = as_group_reward(build("reward", {"name": "reward_model", "path": path, **options}), pool)
    return [score.value for score in wait(reward.score([trajectory(text) for text in texts]))]


def test_scales(model: ByLength, pool: GradingPool, tmp_path: Path) -> None:
    path = card(tmp_path, calibration=Calibration(mean=2.0, std=4.0, low=0.0, high=9.0, rows=5))
    assert values(path, pool, ["abcd"]) == [0.5]
    assert values(path, pool, ["abcd"], scale="raw") == [4.0]
    card(tmp_path, "verifier")
    assert values(path, pool, ["", "ab"]) == [0.5, pytest.approx(0.8807970779778823)]


def test_scales_that_mean_nothing_are_refused(model: ByLength, pool: GradingPool, tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="no logits of a probability"):
        values(card(tmp_path), pool, ["a"], scale="probability")
    with pytest.raises(RewardError, match="no calibration"):
        values(card(tmp_path), pool, ["a"])


def test_a_model_of_another_kind_is_refused_when_the_run_begins(pool: GradingPool, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="of kind 'process'; expected outcome or verifier or token"):
        as_group_reward(build("reward", {"name": "reward_model", "path": card(tmp_path, "process")}), pool)
    with pytest.raises(CheckpointError, match="no such folder"):
        as_group_reward(build("reward", {"name": "reward_model", "path": str(tmp_path / "nowhere")}), pool)


def test_what_cannot_be_judged_has_no_value(model: ByLength, pool: GradingPool, tmp_path: Path) -> None:
    reward = as_group_reward(build("reward", {"name": "reward_model", "path": card(tmp_path), "scale": "raw"}), pool)
    broken, cut, fine = wait(reward.score([trajectory(text) for text in ("nan", "cut", "fine")]))
    assert (broken.value, broken.verdict) == (cut.value, cut.verdict) == (None, "error")
    assert "problem p: reward_model: the model gave [nan]" in broken.reason
    assert "5 of 12 tokens were cut off" in cut.reason
    assert (fine.value, fine.verdict, fine.parts) == (4.0, None, {"truncated": 0.0})
    assert len(reward.latencies()["reward_model"]) == 3
    assert reward.latencies()["reward_model"] == []


def test_groups_that_wait_are_scored_together_and_each_gets_its_own(
    model: ByLength, pool: GradingPool, tmp_path: Path
) -> None:
    reward = as_group_reward(build("reward", {"name": "reward_model", "path": card(tmp_path), "scale": "raw"}), pool)

    async def play() -> list[list[float | None]]:
        model.go.clear()
        groups = [asyncio.create_task(_values(reward, ["x" * n, "y"])) for n in range(2, 6)]
        await asyncio.sleep(0.05)  # the loop is free while the model works
        model.go.set()
        return list(await asyncio.gather(*groups))

    assert wait(play()) == [[float(n), 1.0] for n in range(2, 6)]
    assert [len(batch) for batch in model.batches] == [2, 6]


async def _values(reward: Any, texts: Sequence[str]) -> list[float | None]:
    return [score.value for score in await reward.score([trajectory(text) for text in texts])]


def test_who_waits_hears_of_an_error(pool: GradingPool, tmp_path: Path) -> None:
    scorer.scorer.cache_clear()
    reward = as_group_reward(build("reward", {"name": "reward_model", "path": card(tmp_path), "scale": "raw"}), pool)
    with pytest.raises(CheckpointError, match="no weights"):
        wait(reward.score([trajectory("a")]))


def test_the_template_may_read_columns_and_variables(model: ByLength, pool: GradingPool, tmp_path: Path) -> None:
    values(card(tmp_path), pool, ["a"], scale="raw", variables={"principles": ["x"]})
    assert model.batches[0][0].variables == {"level": 3, "principles": ["x"]}
    assert model.batches[0][0].prompt == [{"role": "user", "content": "q"}]


def test_earlier_turns_belong_to_the_prompt() -> None:
    first, last = trajectory("one").turns[0], trajectory("two").turns[0]
    from dataclasses import replace

    reply = [{"role": "user", "content": "again"}]
    one = replace(trajectory("x"), turns=[replace(first, reply=reply), last])
    assert [message["content"] for message in before_last(one)] == ["q", "one", "again"]
