"""Sets of words to write a sentence of."""

from __future__ import annotations

from typing import Literal

import pytest

from llmrl.data.constrained_text import SCENES, ConstrainedText
from llmrl.errors import DataError
from llmrl.rewards.coverage import Coverage
from llmrl.types import Problem
from tests.builders import some


def read(split: Literal["train", "heldout"] = "train", count: int = 60, seed: int = 0) -> list[Problem]:
    return list(ConstrainedText(split=split, count=count, seed=seed).problems())


def test_each_set_is_of_one_scene_and_can_be_covered() -> None:
    nouns = {name: set(words.split()) for name, _, words in SCENES}
    for problem in some(read()):
        words = problem.info["words"]
        assert len(set(words)) == 4
        assert len(nouns[problem.info["scene"]] & set(words)) == 3
        assert ", ".join(words) in problem.messages[0]["content"]
        assert Coverage()(problem, f"The {' with the '.join(words)}.").verdict == "correct"


def test_the_seed_decides_and_no_set_comes_twice() -> None:
    assert read(count=20) == read()[:20]
    assert read(seed=1) != read()
    assert len({problem.id for problem in read(count=400)}) == 400


def test_train_and_heldout_never_share_a_set() -> None:
    train = {problem.id for seed in (0, 1) for problem in read(count=300, seed=seed)}
    assert not train & {problem.id for problem in read("heldout", count=200)}


def test_too_many_are_told() -> None:
    with pytest.raises(DataError, match="sets of words found, count is 100000"):
        list(ConstrainedText(nouns=1, count=100_000).problems())
