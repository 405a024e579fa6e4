"""A world to learn in: problems of 20 difficulties, a skill that grows where some answers are right and some wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmrl.ops.curriculum import draw, mixed
from llmrl.plugins import build
from llmrl.protocols import Curriculum, CurriculumFactory
from llmrl.types import Problem

LEVELS, EACH, SAMPLES = 20, 5, 8


PROBLEMS = [
    Problem(
        id=f"{level}/{i}",
        messages=[{"role": "user", "content": "?"}],
        info={"difficulty": level / 10, "topic": "even" if level % 2 == 0 else "odd"},
    )
    for level in range(LEVELS)
    for i in range(EACH)
]
"""Five problems of each difficulty 0.0, 0.1 ... 1.9."""


def made(spec: Mapping[str, Any]) -> CurriculumFactory:
    factory: CurriculumFactory = build("curriculum", spec)
    return factory


class Learner:
    """A policy in one number: it solves a problem with probability `sigmoid((skill - difficulty) / 0.05)`."""

    def __init__(self, seed: int) -> None:
        self.skill = 0.0
        self.random = np.random.default_rng(seed)

    def rate(self, difficulty: float) -> float:
        """Play a group; learn by the variance of its verdicts, as a group baseline does; return its pass rate."""
        right = self.random.binomial(SAMPLES, 1 / (1 + np.exp((difficulty - self.skill) / 0.05))) / SAMPLES
        self.skill += 0.005 * right * (1 - right)
        return float(right)

    def step(self, curriculum: Curriculum | None, random_share: float, groups: int = 4) -> None:
        """Play a step's groups, and let the curriculum observe them."""
        weights = np.ones(len(PROBLEMS)) if curriculum is None else curriculum.weights()
        drawn = draw(mixed(weights, random_share), groups, self.random)
        outcomes = [(number, self.rate(PROBLEMS[number].info["difficulty"])) for number in drawn]
        if curriculum is not None:
            curriculum.observe(outcomes)


def skill(spec: Mapping[str, Any] | None, seed: int, steps: int = 1500) -> float:
    """The skill after 6,000 groups, under a curriculum or with all problems alike."""
    learner, factory = Learner(seed), None if spec is None else made(spec)
    curriculum = None if factory is None else factory.start(PROBLEMS)
    for _ in range(steps):
        learner.step(curriculum, 1.0 if factory is None else factory.random_share)
    return learner.skill
