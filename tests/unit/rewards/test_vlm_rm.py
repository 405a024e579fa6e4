"""Likeness to a goal: the formula by hand, and a tiny CLIP on real pictures."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from llmrl.errors import RewardError
from llmrl.plugins import build
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Problem, Score
from llmrl.vision.similarity import similarity
from tests.builders import episodes
from tests.seeing import painted, write_clip


def test_without_alpha_it_is_the_cosine() -> None:
    torch.manual_seed(0)
    states, goal, baseline = torch.randn(5, 8), torch.randn(8), torch.randn(8)
    cosine = torch.nn.functional.cosine_similarity(states, goal[None])
    assert torch.allclose(similarity(states, goal, None, 0.0), cosine, atol=1e-6)
    assert torch.allclose(similarity(states, goal, baseline, 0.0), cosine, atol=1e-6)


def test_with_alpha_1_only_the_line_from_baseline_to_goal_counts() -> None:
    goal, baseline = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])
    states = torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    # s - g along (g - b) / sqrt 2: 0 for the goal; of length sqrt 2 for the baseline; of 1 / sqrt 2 for the third
    assert torch.allclose(similarity(states, goal, baseline, 1.0), torch.tensor([1.0, 0.0, 0.75]))
    # halfway: P = I / 2 + d d^T / 4, with d = (-1, 1, 0): (s - g) of the third is (0, -1, 1), P of it (1/4, -3/4, 1/2)
    assert torch.allclose(similarity(states, goal, baseline, 0.5)[2], torch.tensor(1 - (1 / 16 + 9 / 16 + 1 / 4) / 2))


def test_the_affine_form_of_the_paper() -> None:
    torch.manual_seed(1)
    states, goal, baseline = (torch.nn.functional.normalize(torch.randn(4, 6).double(), dim=-1) for _ in range(3))
    for alpha in (0.0, 0.3, 1.0):
        for g, b in zip(goal, baseline, strict=True):
            d = (g - b) / (g - b).norm()
            projected = g + ((states - g) @ d)[:, None] * d  # onto the line through both
            paper = 1 - (alpha * projected + (1 - alpha) * states - g).norm(dim=-1) ** 2 / 2
            assert torch.allclose(similarity(states, g, b, alpha), paper, atol=1e-12)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


def score(path: Path, *pictures: str | None, info: dict[str, Any] | None = None, **options: Any) -> list[Score]:
    problem = Problem(id="p", messages=[{"role": "user", "content": "paint"}], info=info or {})
    played = [
        replace(one, turns=[replace(one.turns[0], reply=[{"role": "user", "content": "", "picture": picture}])])
        for one, picture in zip(episodes(*("x" for _ in pictures), problem=problem), pictures, strict=True)
    ]
    with GradingPool(workers=1, timeout_s=1.0) as pool:
        reward = as_group_reward(build("reward", {"name": "vlm_rm", "path": str(path), **options}), pool)
        return asyncio.run(reward.score(played))


@pytest.fixture
def drawn(tmp_path: Path) -> list[str]:
    return painted(tmp_path, "red", "blue")


def test_it_is_what_the_model_says(clip: Path, drawn: list[str]) -> None:
    from transformers import AutoProcessor, CLIPModel

    model: Any = CLIPModel.from_pretrained(clip).eval()
    processor = AutoProcessor.from_pretrained(clip)
    given = processor(text=["a red wall"], images=[Image.open(one) for one in drawn], return_tensors="pt", padding=True)
    with torch.inference_mode():
        out = model(**given)
    expected = (out.image_embeds @ out.text_embeds.T)[:, 0].tolist()
    scores = score(clip, *drawn, goal="a red wall")
    assert [one.value for one in scores] == pytest.approx(expected, abs=1e-5)
    assert [one.parts["cosine"] for one in scores] == pytest.approx(expected, abs=1e-5)
    assert scores[0].value != scores[1].value
    assert all(one.verdict is None for one in scores)
    moved = score(clip, *drawn, goal="a red wall", baseline="a wall", alpha=0.5)
    assert [one.parts["cosine"] for one in moved] == pytest.approx(expected, abs=1e-5)
    values = [one.value for one in moved]
    assert all(value is not None and math.isfinite(value) for value in values)
    assert values != pytest.approx(expected, abs=1e-3)
    (own,) = score(clip, drawn[0], goal_column="wanted", info={"wanted": "a red wall"})
    assert own.value == pytest.approx(expected[0], abs=1e-5)


def test_what_cannot_be_compared_has_no_value(clip: Path, drawn: list[str], tmp_path: Path) -> None:
    none, gone = score(clip, None, str(tmp_path / "gone.png"), goal="a")
    assert none.value is gone.value is None
    assert "problem p: vlm_rm: the episode shows no picture" in none.reason
    assert "gone.png: No such file" in gone.reason
    (long,) = score(clip, drawn[0], goal="a red wall " * 9)
    assert "a goal or baseline of 100 tokens; the model reads 32" in long.reason
    (one,) = score(clip, drawn[0], goal_column="wanted", info={"wanted": "a"}, baseline="a", alpha=0.5)
    assert "goal and baseline are the same to this model" in one.reason
    (unnamed,) = score(clip, drawn[0], goal_column="wanted")
    assert "no text in info['wanted']" in unnamed.reason


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "expected either goal"),
        ({"goal": "a", "goal_column": "b"}, "expected either goal"),
        ({"goal": "a", "alpha": 0.5}, "expected a baseline"),
        ({"goal": "a", "baseline": "a", "alpha": 0.5}, "expected another text than the goal"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        build("reward", {"name": "vlm_rm", "path": "x", **options})


def test_models_that_cannot_are_refused(tiny_model_dir: Path, clip: Path, drawn: list[str], tmp_path: Path) -> None:
    with pytest.raises(RewardError, match=r"vlm_rm: .*has no space of texts and pictures|vlm_rm: .*did not load"):
        score(tiny_model_dir, drawn[0], goal="a")
    with pytest.raises(RewardError, match=r"vlm_rm: .*none: it did not load"):
        score(tmp_path / "none", drawn[0], goal="a")
