"""Sub-goals that a model proposes: how a reply is read, what is counted, and what the rows do in the environment."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from llmrl import plugins
from llmrl.aio import wait
from llmrl.data.jsonl import Jsonl
from llmrl.datagen.subgoals import (
    ProposalOptions,
    proposer_prompt,
    reached_by_expert,
    read_goals,
    values_of_facts,
    write_proposals,
)
from llmrl.envs.text_nav import TextNav
from llmrl.errors import DataError, RecipeError, RewardError
from llmrl.types import Problem
from tests.builders import some
from tests.http_server import HttpServer, completion

NAV: dict[str, Any] = {"name": "text_nav", "instructions": False}
GAME = TextNav(instructions=False)
DATA = {"name": "games", "env": NAV, "split": "all"}
KNOWN = GAME.facts(GAME.begin("living room"))
KITCHEN = {"text": "enter the kitchen", "when": {"room": "kitchen"}}
FRIDGE = {"text": "open the fridge", "when": {"opened": "fridge"}}
GARAGE = {"text": "enter the garage", "when": {"room": "garage"}}
LIST = json.dumps([KITCHEN, FRIDGE])


@pytest.mark.parametrize(
    "reply",
    [
        LIST,
        f"<think>[{json.dumps(GARAGE)}] or rather</think>Here they are:\n```json\n{LIST}\n```\nGood luck [1]!",
        f"1. {json.dumps(KITCHEN)}\n2. {json.dumps(FRIDGE)}",
        json.dumps({"plan": {"subgoals": [{**KITCHEN, "why": "food"}, FRIDGE]}}),
        LIST[:-1] + ', {"text": "put th',
        "{'text': 1} [[[{" + LIST,
    ],
    ids=["list", "fence", "lines", "object", "cut off", "noise"],
)
def test_a_reply_is_read_however_it_is_wrapped(reply: str) -> None:
    read = read_goals(reply, KNOWN)
    assert (read.goals, list(read.faults)) == ([KITCHEN, FRIDGE], [])


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"text": "go"}, "expected text, and when"),
        ({"when": {"room": "kitchen"}}, "expected text, and when"),
        ({"text": "go", "when": {}}, "expected text, and when"),
        ({"text": "go", "when": "room is kitchen"}, "expected text, and when"),
        ({"text": "go", "when": {"mood": "good"}}, "mood: expected facts among room, opened"),
        ({"text": "go", "when": {"opened": {"fridge": True}}}, "opened is {'fridge': True}: expected a text"),
        ({"text": "go", "when": {"room": [["kitchen"]]}}, "room is [['kitchen']]: expected a text"),
        ({"text": "go" * 101, "when": {"room": "kitchen"}}, "a text of 202 characters"),
        ({"text": "\ud800", "when": {"room": "kitchen"}}, "half a character"),
    ],
)
def test_a_proposal_that_is_none_is_told(value: dict[str, Any], fault: str) -> None:
    read = read_goals(json.dumps([KITCHEN, value, KITCHEN]), KNOWN)
    assert (read.goals, read.repeated, len(read.faults)) == ([KITCHEN], 1, 1)
    assert "proposal 1" in read.faults[0]
    assert fault in read.faults[0]


@pytest.mark.parametrize("reply", ["", "Go to the kitchen.", "[1, 2]", "[" * 5000, '{"a":' * 5000, "[[[[[[" + LIST])
def test_a_reply_without_any_is_one_that_is_malformed(reply: str) -> None:
    read = read_goals(reply, KNOWN)
    if not read.goals:
        assert [fault.startswith(": no object with text or when in ") for fault in read.faults] == [True]


def test_the_prompt_has_the_rules_the_start_and_values_of_facts() -> None:
    facts = values_of_facts(GAME, walks=20, most=3, seed=0)
    problem = Problem(id="p", messages=[], info={"start": "living room"})
    prompt = proposer_prompt(GAME, problem, facts, most=4)
    assert GAME.rules in prompt
    assert GAME.shown(GAME.begin("living room")).strip() in prompt
    assert "at most 4 sub-goals" in prompt
    assert '- room: "' in facts
    assert facts == values_of_facts(GAME, walks=20, most=3, seed=0)
    assert all(line.count(",") <= 2 for line in facts.splitlines()), "three values of each"


@pytest.mark.parametrize("name", ["maze", "text_nav", "wordle", "guess_city", "car_dealer", "chess_endgame", "nim"])
def test_values_of_every_game_can_be_named(name: str) -> None:
    """A board is no value, and a list of all that is left is none that a prompt should hold."""
    for line in some(values_of_facts(plugins.build("env", name), walks=3, most=4, seed=0).splitlines()):
        fact, _, values = line.removeprefix("- ").partition(": ")
        for value in json.loads(f"[{values}]"):
            assert not isinstance(value, list) or len(value) <= 4, fact


def test_the_expert_passes_by_what_lies_on_no_way() -> None:
    start = GAME.begin("living room")
    assert reached_by_expert(GAME, start, [KITCHEN, FRIDGE]) == 2
    assert reached_by_expert(GAME, start, [GARAGE, KITCHEN]) == 0, "in their order"


def options(at: HttpServer, **given: Any) -> ProposalOptions:
    asked = {"url": f"{at.url}/v1", "model": "m", "retries": 0, "pause_s": 0.01} | given.pop("server", {})
    return ProposalOptions(env=NAV, data=given.pop("data", DATA), server=asked, **given)


def test_rows_play_with_the_goals_of_a_server(
    server: HttpServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The prompt that begins in the kitchen gets nothing usable; elsewhere a proposal of two is none."""

    def answer(body: Any) -> tuple[int, Any]:
        first = f"You are in the {'kitchen'}." in body["messages"][0]["content"].partition("Facts of")[0]
        return 200, completion("I cannot say." if first else json.dumps([KITCHEN, {"text": "x"}, FRIDGE]))

    server.answer = answer
    made = options(server, server={"cache": str(tmp_path / "cache")})
    with caplog.at_level(logging.WARNING):
        counts = write_proposals(made, tmp_path / "tasks.jsonl", tmp_path / "rejected.jsonl")
    starts = len(GAME.starts())
    assert counts == {
        "problems": starts,
        "prompts": starts,
        "proposed": 3 * (starts - 1) + 1,
        "malformed": starts,
        "repeated": 0,
        "at_start": 0,
        "subgoals": 2 * (starts - 1),
        "reached_by_expert": 2 * (starts - 1),
        "kept": starts - 1,
    }
    assert f"{starts} proposals are no sub-goals" in caplog.text
    faults = [json.loads(line)["fault"] for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert sum("I cannot say." in fault for fault in faults) == 1
    asked = len(server.asked)
    again = write_proposals(made, tmp_path / "again.jsonl", tmp_path / "rejected-again.jsonl")
    assert (again, len(server.asked)) == (counts, asked + 1), "what could be used is kept"
    assert (tmp_path / "again.jsonl").read_text() == (tmp_path / "tasks.jsonl").read_text()

    env = plugins.build("env", {"name": "subgoals", "env": NAV, "goals_column": "subgoals", "alpha": 0.5})
    problem = next(
        one for one in Jsonl(path=str(tmp_path / "tasks.jsonl")).problems() if one.id.endswith("/dining room")
    )
    episode = env.make(problem)
    wait(episode.reset())
    seen = [wait(episode.step({"role": "assistant", "content": text})) for text in ("go west", "open fridge")]
    assert [each.reward for each in seen] == pytest.approx([0.25, 0.25])


def test_goals_that_hold_at_the_start_are_left_out(server: HttpServer, tmp_path: Path) -> None:
    server.answer = lambda body: (200, completion(json.dumps([KITCHEN, FRIDGE])))
    data = {"name": "jsonl", "path": str(tmp_path / "starts.jsonl")}
    rows = [{"id": name, "prompt": "x", "start": "kitchen"} for name in "ab"]
    (tmp_path / "starts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = write_proposals(options(server, data=data), tmp_path / "tasks.jsonl", tmp_path / "rejected.jsonl")
    assert (counts["prompts"], counts["at_start"], counts["subgoals"], counts["kept"]) == (1, 2, 2, 2)
    assert [one.info["subgoals"] for one in Jsonl(path=str(tmp_path / "tasks.jsonl")).problems()] == [[FRIDGE]] * 2


def test_where_nothing_is_left_it_says_so(server: HttpServer, tmp_path: Path) -> None:
    server.answer = lambda body: (200, completion("Hm."))
    with pytest.raises(DataError, match=r"no problem has a sub-goal: .* 0 kept; .*none\.jsonl says why"):
        write_proposals(options(server), tmp_path / "tasks.jsonl", tmp_path / "none.jsonl")
    server.answer = lambda body: (401, {"error": "no"})
    with pytest.raises(RewardError, match="stage subgoals"):
        write_proposals(options(server), tmp_path / "t.jsonl", tmp_path / "r.jsonl")
    bad = {"name": "jsonl", "path": str(tmp_path / "bad.jsonl")}
    (tmp_path / "bad.jsonl").write_text('{"id": "a", "prompt": "x", "start": "moon"}\n')
    with pytest.raises(DataError, match=r"problem a: info\.start is 'moon', which the game does not take"):
        write_proposals(options(server, data=bad), tmp_path / "t2.jsonl", tmp_path / "r2.jsonl")


def test_a_policy_proposes(tiny_model_dir: Path, tmp_path: Path) -> None:
    """An engine with written replies stands for a policy that knows what to say; one that does not is told."""
    given: dict[str, Any] = {"env": NAV, "data": DATA | {"count": 2}, "model": str(tiny_model_dir), "walks": 2}
    given["values"] = 1
    said = {"name": "scripted", "replies": [LIST, "no idea"]}
    counts = write_proposals(ProposalOptions(**given, engine=said), tmp_path / "t.jsonl", tmp_path / "r.jsonl")
    assert (counts["kept"], counts["malformed"]) == (1, 1)
    with pytest.raises(DataError, match="no problem has a sub-goal"):
        write_proposals(
            ProposalOptions(**given, engine="hf", max_tokens=4), tmp_path / "t2.jsonl", tmp_path / "r2.jsonl"
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "expected either a model"),
        ({"model": "x", "server": {"url": "http://127.0.0.1:1/v1"}}, "expected either a model"),
        ({"server": {"uri": "http://127.0.0.1:1/v1"}}, r"server\.uri: unknown key"),
        ({"model": "x", "most": 0}, "most 0"),
        ({"model": "x", "env": "single_turn"}, "expected a text game"),
    ],
)
def test_options_are_checked(changes: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, RecipeError), match=words):
        ProposalOptions(**{"env": NAV, "data": DATA, **changes})
