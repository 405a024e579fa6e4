"""Variables of launchers without a launcher: one sentence, and never a wait for processes that nobody started."""

from __future__ import annotations

import os

import pytest

from llmrl.errors import RecipeError
from llmrl.run_folder import launch

ALL = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*launch.RANKS, *launch.PLACES, *launch._LAUNCHERS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launch, "launched", lambda: None)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"WORLD_SIZE": "2"}, r"WORLD_SIZE=2, .*unset WORLD_SIZE;"),
        ({"RANK": "1"}, r"RANK=1, .*unset RANK;"),
        ({"LOCAL_RANK": "3"}, r"LOCAL_RANK=3, .*unset LOCAL_RANK;"),
        ({"LOCAL_WORLD_SIZE": "8"}, r"LOCAL_WORLD_SIZE=8, "),
        (ALL, r"WORLD_SIZE=2, .*unset WORLD_SIZE RANK LOCAL_RANK MASTER_ADDR MASTER_PORT; for several: accelerate"),
    ],
)
def test_one_of_several_that_nobody_started(found: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RecipeError, match=rf"the environment says {said}"):
        launch.require_launch()


@pytest.mark.parametrize(("name", "value"), [("WORLD_SIZE", "two"), ("RANK", ""), ("LOCAL_RANK", "1.5")])
def test_what_is_no_number(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(RecipeError, match=rf"environment variable {name} is '{value}'; expected a number, or none"):
        launch.require_launch()


@pytest.mark.parametrize(
    "found",
    [
        {"LOCAL_RANK": "0"},
        {"LOCAL_RANK": "-1"},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"},
    ],
)
def test_strays_of_one_process_are_taken_away(found: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    launch.require_launch()
    assert not found.keys() & os.environ.keys(), "libraries would read them"


def test_a_launch_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (ALL | {"TORCHELASTIC_RUN_ID": "none"}).items():
        monkeypatch.setenv(name, value)
    launch.require_launch()
    assert {name: os.environ[name] for name in ALL} == ALL
    monkeypatch.delenv("MASTER_ADDR")
    with pytest.raises(RecipeError, match=r"WORLD_SIZE is 2, and MASTER_ADDR is not set"):
        launch.require_launch()
