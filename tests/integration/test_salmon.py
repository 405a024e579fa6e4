"""A reward model that reads principles, tiny and trained for real: other principles, other order."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from llmrl.errors import CheckpointError
from llmrl.plugins import build, construct
from llmrl.reward_models.model import RewardModel, load
from llmrl.reward_models.recipe import RewardRecipe
from llmrl.reward_models.rows import AnswerRow
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.train.reward_model.run import train
from llmrl.types import Completion, Problem, Score, Trajectory, Turn

SENTENCES = {"brief": ("be brief", "be long"), "kind": ("be kind", "be rude")}
OPPOSITE = {a: b for pair in SENTENCES.values() for a, b in (pair, pair[::-1])}
TEMPLATE = "{{ response }}\n{{ prompt }}\n{% for one in principles %}- {{ one }}\n{% endfor %}so"


def reply(random: Random, brief: bool, kind: bool) -> str:
    words = [random.choice(["ok", "yes", "so", "well", "now"]) for _ in range(2 if brief else 7)]
    words.insert(random.randrange(len(words) + 1), "dear" if kind else "fool")
    return " ".join(words)


def rows(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Pairs that differ in what one principle is about, which half of the time is turned round."""
    random = Random(seed)
    for _ in range(count):
        about, negated = random.choice(list(SENTENCES)), random.random() < 0.5
        other = [random.random() < 0.5 for _ in range(2)]
        both = [
            (good, one) if about == "brief" else (one, good) for good, one in zip((True, False), other, strict=True)
        ]
        best, worst = (reply(random, *one) for one in (reversed(both) if negated else both))
        prompt = f"say {random.randrange(100)}"
        yield {"prompt": prompt, "chosen": best, "rejected": worst, "principles": [SENTENCES[about][negated]]}


@pytest.fixture(scope="module")
def folder(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("salmon")
    (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(2400, 0)))
    made: RewardRecipe = construct(
        RewardRecipe,
        {
            "kind": "outcome",
            "model": {"model_name_or_path": str(tiny_model_dir)},
            "data": {"train": str(out / "rows.jsonl"), "test_share": 0.02},
            "input": {"template": TEMPLATE, "max_length": 96},
            "train": {"max_steps": 130, "learning_rate": 2e-3, "per_device_train_batch_size": 16}
            | {"output_dir": str(out), "run_name": "model"},
        },
        "test",
    )
    return train(made, "model", lambda _: None)


def margin(model: RewardModel, row: dict[str, Any], principles: list[str]) -> float:
    asked = [
        AnswerRow(prompt=row["prompt"], response=row[which], variables={"principles": principles})
        for which in ("chosen", "rejected")
    ]
    best, worst = (found.logits[0] for found in model.sequences(asked))
    assert best is not None
    assert worst is not None
    return best - worst


def test_turning_a_principle_round_turns_the_preference_round(folder: Path) -> None:
    model, held_out = load(folder, "outcome"), list(rows(200, 1))
    as_asked = [margin(model, row, row["principles"]) > 0 for row in held_out]
    turned = [margin(model, row, [OPPOSITE[one] for one in row["principles"]]) < 0 for row in held_out]
    print(f"as asked {sum(as_asked)} of 200, turned round {sum(turned)} of 200")
    assert sum(as_asked) >= 190
    assert sum(turned) >= 190


def spoken(text: str, group: str = "g", limited: bool = False) -> Trajectory:
    said = Completion(token_ids=[0] * 8, logprobs=[0.0] * 8, finish="length" if limited else "stop", version=0)
    problem = Problem(id="p", messages=[{"role": "user", "content": "say 7"}])
    return Trajectory(
        problem=problem, turns=[Turn(prompt_ids=[], completion=said, text=text)], status="done", group=group
    )


def scored(folder: Path, tmp_path: Path, principles: dict[str, str], **options: Any) -> list[Score]:
    lines = [{"name": name, "text": text, "opposite": OPPOSITE[text]} for name, text in principles.items()]
    (tmp_path / "principles.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = str(tmp_path / "principles.jsonl")
    spec: dict[str, Any] = {"name": "salmon", "path": str(folder), "principles": path}
    spec |= {"k": 1, "guards": False, "length": 0.0, **options}
    group = [spoken("ok dear so"), spoken("ok fool so"), spoken("ok dear so", limited=True)]
    with GradingPool(1, 5.0) as pool:
        return asyncio.run(as_group_reward(build("reward", spec), pool).score(group))


def test_the_reward_pays_what_its_principles_say(folder: Path, tmp_path: Path) -> None:
    kind, fool, limited = scored(folder, tmp_path, {"Kind": "be kind"})
    assert kind.value is not None
    assert fool.value is not None
    assert kind.value > fool.value + 1
    assert limited.value == pytest.approx(kind.value - 6.0)
    assert kind.parts["principle/Kind"] == 1.0
    assert kind.parts["rm"] == pytest.approx(kind.value)
    rude, other, _ = scored(folder, tmp_path, {"Kind": "be kind"}, negate=1.0)
    assert rude.value is not None
    assert other.value is not None
    assert rude.value < other.value - 1
    assert rude.parts["principle/Kind"] == -1.0


def test_a_bonus_for_length_is_added(folder: Path, tmp_path: Path) -> None:
    plain = scored(folder, tmp_path, {"Kind": "be kind"})[0]
    longer = scored(folder, tmp_path, {"Kind": "be kind"}, length=1.0)[0]
    assert longer.value == pytest.approx((plain.value or 0.0) + 5.0 * 8 / 1024)


def test_answers_of_a_group_are_judged_alike_and_groups_differ(folder: Path, tmp_path: Path) -> None:
    spec = {"name": "salmon", "path": str(folder), "k": 1, "guards": False}
    with GradingPool(1, 5.0) as pool:
        reward = as_group_reward(build("reward", spec), pool)
        groups = [asyncio.run(reward.score([spoken("ok", str(n)), spoken("yes", str(n))])) for n in range(12)]
        again = asyncio.run(reward.score([spoken("ok", "0")]))
    assert all(one.parts["principle/Honest"] == two.parts["principle/Honest"] for one, two in groups)
    assert len({one.reason for one, _ in groups}) > 1
    assert again[0].reason == groups[0][0].reason


def test_what_was_not_read_whole_has_no_value(folder: Path, tmp_path: Path) -> None:
    spec = {"name": "salmon", "path": str(folder), "k": 1, "guards": False}
    with GradingPool(1, 5.0) as pool:
        (score,) = asyncio.run(as_group_reward(build("reward", spec), pool).score([spoken("ok " * 200)]))
    assert score.value is None
    assert score.verdict == "error"
    assert "cut off (max_length 96)" in score.reason


def test_more_principles_than_there_are_is_refused_before_anything_is_scored(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="k 2: only 1 principles"):
        scored(folder, tmp_path, {"Kind": "be kind"}, k=2)
    with GradingPool(1, 5.0) as pool, pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        as_group_reward(build("reward", {"name": "salmon", "path": str(tmp_path)}), pool)
