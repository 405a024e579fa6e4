"""Threads sleep while they wait where the cores are busy or shared, unless the user has chosen."""

from __future__ import annotations

import os

import pytest

from llmrl.cli import waiting


@pytest.mark.parametrize(
    ("idle", "given", "policy"),
    [
        (0.95, {}, None),
        (0.5, {}, "passive"),
        (0.95, {"LOCAL_WORLD_SIZE": "2"}, "passive"),
        (0.5, {"OMP_WAIT_POLICY": "active"}, "active"),
        (0.5, {"GOMP_SPINCOUNT": "1000"}, None),
    ],
)
def test_choice(idle: float, given: dict[str, str], policy: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*waiting.CHOICES, "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "undone at the end")
    monkeypatch.delenv("OMP_WAIT_POLICY")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(waiting, "_idle_share", lambda: idle)
    waiting.choose()
    assert os.environ.get("OMP_WAIT_POLICY") == policy


def test_time_of_guests_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten ticks of two cores: four idle, one waiting for a disk, and five of a guest, which are user time, too."""
    readings = iter([[100, 0, 0, 50, 5, 0, 0, 0, 100, 0], [105, 0, 0, 54, 6, 0, 0, 0, 105, 0]])
    monkeypatch.setattr(waiting, "_ticks", lambda cores: next(readings))
    assert waiting._idle_share() == 0.5


def test_cores_are_read() -> None:
    assert 0 <= waiting._idle_share() <= 1


def test_a_system_that_does_not_tell_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_file(cores: object) -> list[int]:
        raise FileNotFoundError

    monkeypatch.setattr(waiting, "_ticks", no_file)
    assert waiting._idle_share() == 0.0
    monkeypatch.setattr(waiting, "_ticks", lambda cores: [])
    assert waiting._idle_share() == 0.0
