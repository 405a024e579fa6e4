from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import pytest

from llmrl.aio import wait
from llmrl.errors import CheckpointError
from llmrl.plugins import build
from llmrl.reward_models import scorer
from llmrl.reward_models.card import Card, Kind, write
from llmrl.reward_models.model import Scored
from llmrl.reward_models.rows import AnswerRow
from llmrl.reward_models.scorer import Scorer
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Score, Trajectory
from tests import builders


def card(folder: Path, kind: Kind, separator: str = "\n") -> str:
    write(folder, Card(kind=kind, link="sigmoid", template_sha256="t", backbone="b", backbone_sha256="b",
                       weights_sha256="w", separator=separator))  # fmt: skip
    return str(folder)


def trajectory(text: str) -> Trajectory:
    return builders.episode(builders.turn(text, [1] * len(text), prompt=[0]))


class Written:
    """In the place of a network: a step says how likely it is right (`0.9`), and each token is worth 1 or -1."""

    def __init__(self) -> None:
        self.asked: list[AnswerRow] = []

    def steps(self, answers: Sequence[AnswerRow]) -> list[Scored]:
        self.asked += answers
        return [Scored([None if s == "cut" else log(float(s) / (1 - float(s))) for s in a.steps or ()], 9,
                       3 * ("cut" in (a.steps or ()))) for a in answers]  # fmt: skip

    def tokens(self, answers: Sequence[AnswerRow]) -> list[Scored]:
        marks = [[1.0 if c == "+" else -1.0 for c in a.response] for a in answers]
        return [Scored([*numbers, 0.0], 9, 0, [*range(1, len(numbers) + 1), len(numbers)]) for numbers in marks]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    made = Written()
    monkeypatch.setattr(Scorer, "_loaded", lambda self: made)
    scorer.scorer.cache_clear()
    yield made
    scorer.scorer.cache_clear()


@pytest.fixture
def pool() -> Iterator[GradingPool]:
    with GradingPool(1, 1.0) as made:
        yield made


def score(pool: GradingPool, text: str, **spec: Any) -> Score:
    (found,) = wait(as_group_reward(build("reward", spec), pool).score([trajectory(text)]))
    return found


def test_the_value_is_the_aggregate_and_steps_are_no_rewards(model: Written, pool: GradingPool, tmp_path: Path) -> None:
    path = card(tmp_path, "process")
    found = score(pool, "0.9\n0.5\n0.8", name="process_model", path=path)
    assert found.value == pytest.approx(0.5)
    assert found.steps == pytest.approx([0.9, 0.5, 0.8])
    assert found.step_ends is None
    assert found.verdict is None
    assert score(pool, "0.9\n0.5", name="process_model", path=path, aggregation="prod").value == pytest.approx(0.45)


def test_steps_that_pay_stand_where_they_end(model: Written, pool: GradingPool, tmp_path: Path) -> None:
    path = card(tmp_path, "process")
    found = score(pool, "0.9\n 0.5 \n0.8", name="process_model", path=path, pays="steps")
    assert found.value == 0.0
    assert found.step_ends == [5, 10, 13]
    assert model.asked[-1].steps == ["0.9", "0.5", "0.8"]
    assert found.parts == {"aggregate": pytest.approx(0.5), "steps": 3.0, "truncated": 0.0}


def test_clip_delta_shapes_them(model: Written, pool: GradingPool, tmp_path: Path) -> None:
    of = {"name": "process_model", "path": card(tmp_path, "process"), "pays": "steps"}
    found = score(pool, "0.9\n0.5\n0.8", name="clip_delta", of=of, form="clip", eta=0.7, alpha=0.5)
    assert found.steps == pytest.approx([0.0, -0.1, 0.0])
    mixed = score(pool, "0.9\n0.5", name="mix", parts={"clip_delta": {"weight": 2.0, "of": of, "form": "pr"}})
    assert mixed.steps == pytest.approx([0.18, 0.1])
    value = score(pool, "0.9\n0.5", name="clip_delta", of={**of, "pays": "value"})
    assert value.verdict == "error"  # steps that are no rewards are none to shape


def test_separators_of_the_card_cut_the_text(model: Written, pool: GradingPool, tmp_path: Path) -> None:
    blank = card(tmp_path, "process", "\n\n")
    score(pool, "0.9\n\n0.5", name="process_model", path=blank, least_words=1)
    assert model.asked[-1].steps == ["0.9", "0.5"]
    own = card(tmp_path, "process", " ки")
    found = build("reward", {"name": "process_model", "path": own}).ends("0.9 ки0.5 ки", " ки")
    assert found == [6, 12]
    special = card(tmp_path, "process", "<|step|>")  # which no policy writes
    score(pool, "0.9\n0.5", name="process_model", path=special, cut_at="\n")
    assert model.asked[-1].steps == ["0.9", "0.5"]


def test_no_words_are_worth_nothing_and_a_step_that_was_cut_has_no_value(
    model: Written, pool: GradingPool, tmp_path: Path
) -> None:
    path = card(tmp_path, "process")
    assert score(pool, " \n", name="process_model", path=path).value == 0.0
    found = score(pool, "cut\n0.5", name="process_model", path=path)
    assert (found.value, found.verdict) == (None, "error")
    assert "3 of 12 tokens were cut off (max_length 1024)" in found.reason


def test_a_token_is_paid_what_it_changes(model: Written, pool: GradingPool, tmp_path: Path) -> None:
    found = score(pool, "++-", name="token_model", path=card(tmp_path, "token"))
    ends = [1 / (1 + 2.718281828459045**-mean) for mean in (0.0, 1.0, 1.0, 1 / 3, 1 / 4)]
    assert found.steps == pytest.approx([b - a for a, b in pairwise(ends)])
    assert found.step_ends == [1, 2, 3, 3]
    assert sum(found.steps or ()) == pytest.approx(found.parts["probability"] - 0.5)  # type: ignore[operator]
    assert (found.value, found.verdict) == (0.0, None)


def test_models_of_another_kind(pool: GradingPool, tmp_path: Path) -> None:
    path = card(tmp_path, "token")
    with pytest.raises(CheckpointError, match="of kind 'token'; expected process"):
        as_group_reward(build("reward", {"name": "process_model", "path": path}), pool)
    write(tmp_path, (Card(kind="process", link="sigmoid", template_sha256="t", backbone="b",
                                 backbone_sha256="b", weights_sha256="w")))  # fmt: skip
    with pytest.raises(CheckpointError, match="of kind 'process'; expected token"):
        as_group_reward(build("reward", {"name": "token_model", "path": path}), pool)
