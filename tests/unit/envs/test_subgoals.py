"""Sub-goals of a text game: bonuses in order, hints, and predicates that the game knows."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from llmrl import plugins
from llmrl.envs.subgoals import Subgoals, _holds
from llmrl.envs.text_nav import TextNav
from llmrl.errors import DataError, RecipeError
from llmrl.ops.fidelity import ndtw, path_length, success_by_length, warping_distance
from llmrl.ops.subgoals import bonus
from llmrl.types import Observation, Problem

GOALS: list[dict[str, Any]] = [
    {"text": "take the stale food", "when": {"stale food": "carried"}},
    {"text": "enter the dining room", "when": {"room": "dining room"}},
    {"text": "enter the kitchen", "when": {"room": "kitchen"}},
    {"text": "open the fridge", "when": {"opened": "fridge"}},
]
START = Problem(id="text_nav/living room", messages=[], info={"start": "living room"})
TAKE = "take stale food from table"
PLAN = [TAKE, "go west", "go west", "open fridge", "insert stale food into fridge", "close fridge"]


def played(actions: list[str], problem: Problem = START, **options: Any) -> list[Observation]:
    given: dict[str, Any] = {"env": TextNav(instructions=False), "goals": GOALS, "alpha": 0.5} | options

    async def run() -> list[Observation]:
        episode = Subgoals(**given).make(problem)
        seen = [await episode.reset()]
        return seen + [await episode.step({"role": "assistant", "content": action}) for action in actions]

    return asyncio.run(run())


def test_the_worked_case() -> None:
    """alpha 0.5, four goals, 0, 1, 1, 3, 4 of them reached: potentials 0, 0.125, 0.125, 0.375, 0.5."""
    given = [bonus(*pair, goals=4, alpha=0.5) for pair in pairwise([0, 1, 1, 3, 4])]
    assert given == pytest.approx([0.125, 0.0, 0.25, 0.125])
    assert bonus(2, 2, 4, 0.5, gamma=0.9) == pytest.approx(0.9 * 0.25 - 0.25)


def test_each_goal_earns_its_share_once_and_the_end_more() -> None:
    seen = played(PLAN)
    assert [each.reward for each in seen[1:]] == pytest.approx([0.125, 0.125, 0.125, 0.125, 0.0, 1.0])
    assert seen[-1].metrics["return"] == 1.0, "the game's own return has no bonus"
    assert seen[-1].metrics["subgoals"] == 1.0


def test_goals_count_in_order_alone() -> None:
    """The dining room before the food is in hand earns nothing; with it, it does when it is entered again."""
    seen = played(["go west", "go east", TAKE, "go west", "go east"])
    assert [each.reward for each in seen[1:]] == pytest.approx([0.0, 0.0, 0.125, 0.125, 0.0])


def test_hints_name_the_next_goal() -> None:
    seen = played(PLAN, hint_share=1.0)
    ends = [str(each.messages[0]["content"]).rpartition("\n")[2] for each in seen[:5]]
    assert ends[:4] == [f"Next: {goal['text']}." for goal in GOALS]
    assert not ends[4].startswith("Next")
    assert "Next:" not in str([each.messages for each in played(PLAN)])


def test_goals_of_a_problem_are_its_own() -> None:
    mine = Problem(id="p", messages=[], info={"start": "living room", "beacons": GOALS[:1]})
    assert played([TAKE], mine, goals=(), goals_column="beacons")[1].reward == 0.5
    with pytest.raises(DataError, match=r"problem text_nav/living room: info\.beacons has no goals"):
        played([], goals=(), goals_column="beacons")
    odd = Problem(id="p", messages=[], info={"start": "kitchen", "beacons": [{"text": "x", "when": {"mood": "good"}}]})
    with pytest.raises(DataError, match=r"problem p: info\.beacons\[0\]: mood: expected facts among room, opened"):
        played([], odd, goals=(), goals_column="beacons")


def test_an_episode_goes_on_from_its_snapshot_with_its_goals() -> None:
    async def run() -> tuple[Observation, Observation]:
        env = Subgoals(env=TextNav(instructions=False), goals=GOALS, alpha=0.5)
        one, other = env.make(START), env.make(START)
        await one.reset()
        shown = [await one.step({"role": "assistant", "content": action}) for action in PLAN[:2]][-1]
        assert (await other.restore(await one.snapshot())).messages == shown.messages
        seen = [await each.step({"role": "assistant", "content": "go west"}) for each in (one, other)]
        return seen[0], seen[1]

    one, other = asyncio.run(run())
    assert one == other
    assert one.reward == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": 0.6}, r"alpha 0\.6"),
        ({"goals": []}, "either goals, at least one, or a goals_column"),
        ({"goals": [{"text": "x"}]}, r"goals\[0\]"),
        ({"goals": [{"text": "x", "when": {"weather": "fine"}}]}, "weather: expected facts among"),
        ({"env": "single_turn"}, "expected a text game"),
    ],
)
def test_options_are_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        plugins.build("env", {"name": "subgoals", "env": "text_nav", "goals": GOALS} | options)


def test_fidelity_of_ways() -> None:
    """Legs of the query: sqrt 10, sqrt 10, 2. Pairs: 0, 1, 0, 2: DTW 3, and exp(-3 / (3 * 3))."""
    reference, query = [[0, 0], [3, 0], [6, 0]], [[0, 0], [3, 1], [6, 0], [6, 2]]
    assert path_length(query) == pytest.approx(8.32455532033676, abs=1e-9)
    assert success_by_length(1.0, 6.0, path_length(query)) == pytest.approx(0.7207592200561264, abs=1e-9)
    assert success_by_length(0.0, 6.0, 6.0) == 0.0
    assert warping_distance(query, reference) == pytest.approx(3.0)
    assert ndtw(query, reference, 3.0) == pytest.approx(0.7165313105737893, abs=1e-9)
    assert ndtw(reference, reference, 3.0) == 1.0


def test_a_list_is_held_by_a_list_alone() -> None:
    """A number has no members; an error there would break every episode."""
    assert [_holds(fact, [1, 2]) for fact in (3, "12", (1, 2), [1, 2])] == [False, False, True, True]
