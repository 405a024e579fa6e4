"""Chats of an agent, as rewards of other toolkits and reward models read them."""

from __future__ import annotations

from dataclasses import replace

from llmrl.reward_models import outcomes
from llmrl.rewards.openrlhf import OpenRLHF
from llmrl.rewards.verifiers import state
from llmrl.rewards.verl import Verl
from llmrl.scoring.transcript import before_last, dialogue, opening
from llmrl.types import Message, Trajectory
from tests.builders import episode, turn


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def said(text: str) -> Message:
    return {"role": "assistant", "content": text}


ALONE = episode(turn("a", reply=[user("b")]), turn("c", reply=[user("end")]), shown=[user("start")])
PLAYED = episode(  # an opponent speaks for the first agent; the policy is the second
    turn("1", agent="first", model="them", reply=[user("they took 1")]),
    turn("2", agent="second", reply=[user("you took 2")]),
    turn("3", agent="first", model="them", reply=[user("they took 3")]),
    turn("4", agent="second", reply=[user("over")]),
    shown=[user("you begin")],
)


def texts(messages: list[Message]) -> list[str]:
    return [str(message["content"]) for message in messages]


def test_a_single_agent_sees_everything() -> None:
    assert before_last(ALONE) == [user("start"), said("a"), user("b")]
    assert dialogue(ALONE) == [said("a"), user("b"), said("c"), user("end")]
    assert list(opening(replace(ALONE, shown=None))) == ALONE.problem.messages


def test_an_agent_sees_nothing_of_another() -> None:
    assert before_last(PLAYED) == [user("they took 1"), said("2"), user("they took 3")]
    assert dialogue(PLAYED) == [said("2"), user("they took 3"), said("4"), user("over")]


def test_an_opponent_may_end_the_game() -> None:
    ended = replace(PLAYED, turns=PLAYED.turns[:3])
    assert before_last(ended) == [user("they took 1")]
    assert dialogue(ended) == [said("2")], "the last reply is for who spoke last"


def test_a_history_that_is_rewritten_stands_for_all_before() -> None:
    whole = episode(turn("a", reply=[user("all so far")], whole=True), "b")
    assert before_last(whole) == [user("all so far")]
    assert texts(dialogue(whole)) == ["a", "all so far", "b"]


def test_without_a_turn_the_problem_is_left() -> None:
    empty = Trajectory(problem=ALONE.problem, turns=[], status="error")
    assert before_last(empty) == list(ALONE.problem.messages)
    assert dialogue(empty) == []


def test_rewards_of_other_toolkits_read_the_agents_chat() -> None:
    asked = OpenRLHF(function="builtins:len").arguments(PLAYED)
    assert asked["queries"] == ["they took 1\n2\nthey took 3\n4"]
    assert Verl(function="builtins:len").arguments(PLAYED)["extra_info"]["num_turns"] == 4
    held = state(PLAYED)
    assert (held["turn"], texts(held["completion"])) == (2, ["2", "they took 3", "4", "over"])
    assert "3" not in outcomes.question(PLAYED)[1]["content"].partition("Final state")[0]
