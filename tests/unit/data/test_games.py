"""Starts of text games as problems: whole, repeatable, in two splits that do not meet."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from llmrl import plugins
from llmrl.data.games import Games, held_out
from llmrl.errors import RecipeError
from tests.builders import some

GAMES: list[Any] = [
    "maze",
    {"name": "maze", "layout": "u"},
    "text_nav",
    "wordle",
    "twenty_questions",
    {"name": "twenty_questions", "objects": "small"},
    "guess_city",
    "car_dealer",
]


def ids(env: Any, **options: Any) -> list[str]:
    return [problem.id for problem in plugins.build("data", {"name": "games", "env": env, **options}).problems()]


@pytest.mark.parametrize("env", GAMES, ids=str)
def test_train_and_heldout_divide_the_starts(env: Any) -> None:
    train, heldout, whole = (ids(env, split=split) for split in ("train", "heldout", "all"))
    assert train
    assert heldout
    assert sorted(train + heldout) == sorted(whole)
    assert len(set(whole)) == len(whole) == len(plugins.build("env", env).starts())


def test_no_option_lets_a_start_cross_over() -> None:
    train = set(ids("twenty_questions"))
    assert not train & set(ids({"name": "twenty_questions", "objects": "small"}, split="heldout", seed=5))
    assert not set(ids("maze")) & set(ids({"name": "maze", "layout": "u"}, split="heldout"))


@pytest.mark.parametrize("env", GAMES, ids=str)
def test_starts_that_are_the_same_but_for_their_name_lie_in_the_same_split(env: Any) -> None:
    game = plugins.build("env", env)
    splits = [
        {game.family(problem.info["start"]) for problem in islice(Games(env=game, split=split).problems(), 3000)}
        for split in ("train", "heldout")
    ]
    assert not splits[0] & splits[1]


def test_buyers_whom_several_numbers_draw_are_one() -> None:
    game = plugins.build("env", "car_dealer")
    assert len({game.family(start) for start in game.starts()}) < len(game.starts())


def test_mirror_images_of_a_position_lie_in_the_same_split() -> None:
    game = plugins.build("env", "chess_endgame")
    for problem in some(islice(Games(env=game, split="heldout").problems(), 20)):
        assert held_out("chess_endgame", game.family(problem.info["start"]))


def test_the_order_is_that_of_the_seed() -> None:
    first, same, other = (ids("wordle", seed=seed) for seed in (0, 0, 1))
    assert first == same != other
    assert ids("wordle", count=7) == first[:7]


def test_a_problem_shows_what_the_environment_shows() -> None:
    game = plugins.build("env", {"name": "maze", "layout": "u", "instructions": False})
    problem = next(p for p in Games(env=game, split="all").problems() if p.info["start"] == "3,1")
    assert problem.id == "maze/3,1"
    assert problem.messages == [
        {
            "role": "user",
            "content": "The goal is at position 3, 3. Your current position is at position 3, 1. "
            "There are walls to your right, to your left, below you.\n",
        }
    ]
    assert problem.info == {"game": "maze", "start": "3,1"}


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(RecipeError, match="env single_turn is no text game"):
        ids("single_turn")
    with pytest.raises(RecipeError, match=r"data\.count: input should be greater than or equal to 1; found 0"):
        ids("maze", count=0)
    with pytest.raises(RecipeError, match="missing"):
        plugins.build("data", "games")
