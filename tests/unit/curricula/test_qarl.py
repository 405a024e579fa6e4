"""QARL: an adversary that begins nearly at random and grows rational, so that the policy's worst becomes better."""

from __future__ import annotations

import json

import numpy as np
import pytest

from llmrl.ops.curriculum import draw, mixed
from llmrl.protocols import Curriculum
from llmrl.types import Problem
from tests.unit.curricula.worlds import made

KINDS = ("none", "distractor", "claim", "typos")
SPEED = (0.02, 0.008, 0.004, 0.002)
"""What a visit of each kind teaches."""


def problems() -> list[Problem]:
    return [
        Problem(id=f"{i}#{kind}", messages=[], info={"perturbation": kind}) for i in range(2) for kind in sorted(KINDS)
    ]


def test_kinds_are_drawn_by_how_often_they_fail() -> None:
    """Temperature 0.5, failures 1 and 0 of two kinds, never tried counts as 1: odds e^2 to 1, halved over two each."""
    curriculum = made({"name": "qarl", "temperature": 0.5}).start(problems())
    curriculum.observe([(0, 0.0), (1, 1.0), (2, 1.0), (3, 1.0)])
    odds = np.exp([2.0, 0.0, 0.0, 0.0])
    assert curriculum.weights().tolist() == pytest.approx([*(odds / odds.sum() / 2)] * 2)


def test_it_cools_by_whole_windows() -> None:
    """Pass rates of the windows of two: 0.5, 0.75, 1.0; threshold 0.6, so that it falls twice."""
    curriculum = made({"name": "qarl", "window": 2}).start(problems())
    seen = [curriculum.observe([(0, rate)])["curriculum/temperature"] for rate in (0.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0)]
    assert seen == pytest.approx([2.0, 2.0, 2.0, 1.4, 1.4, 0.98, 0.98])


def worst(curriculum: Curriculum | None, seed: int, random_share: float) -> float:
    """The pass rate of the kind that a policy solves least, after 500 steps; a visit moves a kind's towards 1."""
    generator, rates = np.random.default_rng(seed), dict(zip(sorted(KINDS), SPEED, strict=True))
    skill, given = dict.fromkeys(KINDS, 0.2), problems()
    for _ in range(500):
        weights = np.ones(len(given)) if curriculum is None else curriculum.weights()
        outcomes = []
        for number in draw(mixed(weights, random_share), 4, generator):
            kind = given[number].info["perturbation"]
            outcomes.append((number, generator.binomial(8, skill[kind]) / 8))
            skill[kind] += rates[kind] * (1 - skill[kind])
        if curriculum is not None:
            curriculum.observe(outcomes)
    return min(skill.values())


def test_the_worst_case_is_better_than_under_all_kinds_alike() -> None:
    for seed in range(3):
        factory = made({"name": "qarl"})
        alone = worst(None, seed, 1.0)
        assert worst(factory.start(problems()), seed, factory.random_share) > alone + 0.05


def test_its_state_is_the_whole_of_it() -> None:
    factory = made({"name": "qarl", "window": 3})
    curriculum, again = factory.start(problems()), factory.start(problems())
    curriculum.observe([(0, 0.5), (3, 1.0), (2, 0.25), (1, 0.75)])
    again.restore(json.loads(json.dumps(curriculum.state())))
    for each in (curriculum, again):
        each.observe([(5, 1.0), (2, 1.0)])
    assert again.state() == curriculum.state()
