"""Hostile programs, at every level that works here: each gets a verdict, none a reward, nothing of them is left."""

from __future__ import annotations

import os

import pytest

from llmrl.checks.attacks.hostile_code import ATTACKS, HONEST, problem_of
from llmrl.checks.attacks.hostile_files import FILES
from llmrl.checks.attacks.hostile_host import attempt
from llmrl.checks.attacks.hostile_kernel import KERNEL
from llmrl.rewards.code import Code
from llmrl.sandbox.cleanup import LOCKS, living, locked
from llmrl.sandbox.fence import fence_version
from llmrl.sandbox.isolation import Level
from llmrl.sandbox.landlock import SIGNALS
from llmrl.sandbox.run import available

FENCED = fence_version() >= SIGNALS
WALLS: list[Level] = [level for level, why in available().items() if not why and (level != "subprocess" or FENCED)]
NOT_STOPPED = set() if FENCED else {("uid", name) for name in (*FILES, *KERNEL)}  # of harm: docs/sandbox.md says so


def reward(level: Level) -> Code:
    return Code(min_level=level, level=level, timeout_s=15.0, memory_mb=256)


@pytest.mark.parametrize("level", WALLS)
def test_an_honest_program_is_paid(level: Level) -> None:
    for problem in {problem_of(name).id: problem_of(name) for name in ATTACKS}.values():
        assert reward(level)(problem, f"```python\n{HONEST}```").value == 1.0, problem.id


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("level", WALLS)
def test_an_attack_gains_nothing(level: Level, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMRL_CANARY_TOKEN", "a secret")
    score, harm = attempt(reward(level), name)
    assert (score.value, score.verdict) == (0.0, "wrong")
    assert score.reason
    assert (level, name) in NOT_STOPPED or not harm
    assert not leftovers()


def leftovers() -> list[int]:
    """Users with living processes that belong to no program that runs now; only root has those users to give."""
    given = LOCKS.glob("[0-9]*") if os.geteuid() == 0 else ()
    return [uid for uid in (int(path.name) for path in given) if free(uid) and living(uid)]


def free(uid: int) -> bool:
    lock = os.open(LOCKS / str(uid), os.O_RDWR)
    try:
        return locked(lock)
    finally:
        os.close(lock)
