"""The house of text navigation: its map, its commands, and plans that no search beats."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest

from llmrl.envs.text_nav import TextNav
from llmrl.games.house import EATEN, EXITS, FOOD, THINGS, House, commands, plan, way

PLANS = {
    "living room": 6,
    "bedroom": 7,
    "dining room": 7,
    "office": 7,
    "bathroom": 8,
    "kitchen": 8,
    "garden": 9,
    "backyard": 9,
}


def shortest(house: House) -> int:
    """Commands to the goal by breadth-first search over all states that the stale food and the fridge can be in."""

    def concerns(command: str) -> bool:
        others = [thing for thing in THINGS if thing != "stale food"]
        return "chest" not in command and not any(thing in command for thing in others)

    seen, queue = {house}, deque([(house, 0)])
    while queue:
        state, steps = queue.popleft()
        if state.is_stored():
            return steps
        for command, after in commands(state).items():
            if concerns(command) and after not in seen and not after.is_lost():
                seen.add(after)
                queue.append((after, steps + 1))
    raise AssertionError("no way")


def test_the_map_is_that_of_the_benchmark() -> None:
    assert {room: set(exits.values()) for room, exits in EXITS.items()} == {
        "bedroom": {"living room", "bathroom"},
        "living room": {"bedroom", "dining room", "office"},
        "dining room": {"living room", "kitchen"},
        "kitchen": {"dining room", "garden", "backyard"},
        "garden": {"kitchen"},
        "backyard": {"kitchen"},
        "office": {"living room", "bathroom"},
        "bathroom": {"office", "bedroom"},
    }
    assert {room: len(way(room, "living room")) + 6 for room in EXITS} == PLANS


def test_plans_have_the_lengths_of_the_benchmark_and_no_search_beats_them() -> None:
    assert {room: len(plan(House(room))) for room in EXITS} == PLANS
    assert sum(PLANS.values()) / 8 == 7.625
    assert {room: shortest(House(room)) for room in EXITS} == PLANS


def test_plans_are_shortest_wherever_a_random_player_has_led() -> None:
    random, game = Random(1), TextNav()
    checked = 0
    for number in range(60):
        state = game.begin(random.choice(list(EXITS)))
        for _ in range(random.randint(1, 25)):
            move = game.play(state, random.choice(game.actions(state)))
            if move.end is not None:
                break
            state = move.state
        else:
            assert len(plan(state)) == shortest(state), number
            checked += 1
    assert checked > 20


def test_a_fridge_that_holds_the_food_is_closed() -> None:
    open_fridge = House("garden", opened=frozenset({"fridge"})).with_place("stale food", "in kitchen")
    assert plan(open_fridge) == ["go south", "close fridge"]
    assert shortest(open_fridge) == 2


def test_eating_the_stale_food_loses_and_other_food_does_not() -> None:
    game = TextNav()
    state = game.begin("living room")
    for thing, end in (("fresh food", None), ("stale food", "lost")):
        state = game.play(state, f"take {thing} from table").state
        move = game.play(state, f"eat {thing}")
        assert (move.end, move.reward, move.state.place_of(thing)) == (end, 0.0, EATEN)
        state = move.state
    assert "eat bowl" not in commands(House("bedroom").with_place("bowl", "carried"))
    assert len(FOOD) == 3


def test_the_reward_comes_once_with_the_closed_fridge() -> None:
    game = TextNav()
    state = game.begin("kitchen")
    rewards = []
    for command in plan(state):
        move = game.play(state, command)
        state = move.state
        rewards.append(move.reward)
    assert rewards == [0.0] * 7 + [1.0]
    assert move.end == "won"


def test_a_closed_chest_shows_and_gives_nothing() -> None:
    office = House("office")
    assert "take utensils from chest" not in commands(office)
    opened = commands(office)["open chest"]
    assert "take utensils from chest" in commands(opened)
    assert "utensils" not in TextNav().shown(office)
    assert "In the chest there are the utensils." in TextNav().shown(opened)


def test_texts_of_both_observations() -> None:
    game = TextNav(instructions=False)
    assert game.opening(game.begin("garden")) == (
        "You are in the garden. There is an exit to the south. You carry nothing.\nAdmissible commands: go south\n"
    )
    hidden = TextNav(instructions=False, observed="partial")
    assert hidden.opening(hidden.begin("garden")) == ("There is an exit to the south.\nAdmissible commands: go south\n")
    assert hidden.play(hidden.begin("garden"), "inventory").reply.startswith("You carry nothing. There is an exit")


def test_no_command_changes_nothing_but_the_number_of_moves() -> None:
    game = TextNav(max_moves=2)
    move = game.play(game.begin("garden"), "dance")
    assert (move.legal, move.end, move.state) == (False, None, House("garden", moves=1))
    assert move.reply.startswith("That is no command here. ")
    assert game.play(move.state, "GO  South").end == "cut"
    assert game.play(game.begin("garden"), " go south ").state.room == "kitchen"


def test_an_unknown_room_is_no_start() -> None:
    with pytest.raises(ValueError, match="expected one of backyard, bathroom"):
        TextNav().begin("attic")
