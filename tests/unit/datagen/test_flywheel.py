"""A round of the data flywheel: ways, instructions, what an agent follows, and rows for both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmrl import plugins
from llmrl.aio import wait
from llmrl.chat import Chat
from llmrl.data.jsonl import Jsonl
from llmrl.datagen.flywheel import (
    KeepOptions,
    LabelOptions,
    generator_prompt,
    instructions,
    kept_tasks,
    walks,
    write_kept,
    write_labelled,
)
from llmrl.engines.scripted import Scripted, ScriptedEngine
from llmrl.envs.follow import Follow
from llmrl.envs.maze import MazeGame
from llmrl.errors import DataError
from llmrl.run_folder.writer import Logs
from llmrl.tiny import make_tokenizer
from llmrl.types import Observation, Problem, Score, Trajectory
from tests import builders

MAZE = {"name": "maze", "instructions": False}
CHAT = Chat(make_tokenizer())


def options(**given: Any) -> LabelOptions:
    facts: dict[str, Any] = {"env": MAZE, "model": "none", "walks": 30, "most_moves": 3} | given
    return LabelOptions(**facts)


def follow(reference: list[str], actions: list[str], **given: Any) -> list[Observation]:
    info = {"start": "5,3", "reference": reference}
    problem = Problem(id="t", messages=[{"role": "user", "content": "Go."}], info=info)
    episode = Follow(env=MazeGame(instructions=False), **given).make(problem)

    async def run() -> list[Observation]:
        seen = [await episode.reset()]
        return seen + [await episode.step({"role": "assistant", "content": action}) for action in actions]

    return wait(run())


UP, DOWN = "move up", "move down"


def test_an_instruction_is_followed_where_the_game_ends_up_alike() -> None:
    """The reference goes up twice: 2 of 2 moves are worth 1, 2 of 4 are worth 0.5, another end is worth 0."""
    seen = follow([UP, UP], [UP, UP, "done"])
    assert str(seen[0].messages[-1]["content"]).startswith("Go.\n\nThe goal is at")
    assert (seen[-1].reward, seen[-1].verdict, seen[-1].cut) == (1.0, "correct", False)
    detour = follow([UP, UP], [UP, DOWN, UP, UP])[-1]
    assert (detour.done, detour.reward, detour.verdict, detour.cut) == (True, 0.5, "correct", False)
    assert follow([UP, UP], [UP, "done"])[-1].verdict == "wrong"
    late = follow([UP, UP], [DOWN, UP, DOWN, UP])[-1]
    assert (late.reward, late.verdict, late.cut) == (0.0, "wrong", True)


@pytest.mark.parametrize(
    "info", [{"start": "5,3"}, {"start": "5,3", "reference": "up"}, {"reference": [UP], "start": "x"}]
)
def test_a_task_without_its_way_is_refused(info: dict[str, Any]) -> None:
    problem = Problem(id="t", messages=[], info=info)
    with pytest.raises(DataError, match=r"problem t: info\."):
        Follow(env=MazeGame()).make(problem)


def test_a_task_that_doing_nothing_solves_is_refused() -> None:
    """Up and down again ends at the start, where `done` at once would earn everything."""
    with pytest.raises(DataError, match=r"problem t: info\.reference ends where it begins"):
        follow([UP, DOWN], ["done"])


@pytest.mark.parametrize("env", [MAZE, {"name": "text_nav", "instructions": False}], ids=["maze", "text_nav"])
def test_no_way_comes_back_to_what_it_has_shown(env: dict[str, Any]) -> None:
    game = plugins.build("env", env)
    ways = list(walks(options(env=env, walks=60, most_moves=5)))
    assert len(ways) > 20
    for way in ways:
        states = [game.begin(way["start"])]
        for action in way["reference"]:
            states.append(game.play(states[-1], action).state)
        assert len({game.shown(state) for state in states}) == len(states), way


def test_ways_are_different_and_stay_in_the_game() -> None:
    ways = list(walks(options()))
    assert ways == list(walks(options()))
    assert len({(way["start"], *way["reference"]) for way in ways}) == len(ways) > 20
    assert all(2 <= len(way["reference"]) <= 3 for way in ways)
    assert "move" in generator_prompt(ways[0])


def test_the_generator_is_asked_once_for_each_way() -> None:
    engine = ScriptedEngine(
        tokenizer=CHAT.tokenizer,
        options=Scripted(replies=["Walk\n on. ", ""]),
        stop_token_ids=[CHAT.tokenizer.eos_token_id],
    )
    assert wait(instructions(["a", "b"], options(), engine, CHAT)) == ["Walk on.", ""]
    assert [sampling.seed for _, sampling in engine.calls] == [0, 1]


def test_a_model_labels_ways(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = options(model=str(tiny_model_dir), engine={"name": "hf"}, walks=3, variants=2, max_tokens=8)
    counts = write_labelled(made, tmp_path / "tasks.jsonl")
    problems = list(Jsonl(path=str(tmp_path / "tasks.jsonl")).problems())
    assert counts["labelled"] == len(problems) > 0
    env = plugins.build("env", {"name": "follow", "env": MAZE})
    for problem in problems:
        assert wait(env.make(problem).reset()).messages


@pytest.fixture
def round_(tmp_path: Path) -> dict[str, Any]:
    """Five tasks: a is followed twice of twice, b once, c on long ways, d never, e was not played."""
    names, played = "abcde", {"a": (1.0, 0.9), "b": (1.0, 0.0), "c": (0.5, 0.6), "d": (0.0, 0.0)}
    rows = [
        {"id": n, "start": "5,3", "reference": [UP], "shown": "s", "prompt": [{"role": "user", "content": f"Do {n}."}]}
        for n in names
    ]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    anchors = [{**row, "id": f"mine-{row['id']}"} for row in rows[:1]]
    (tmp_path / "anchors.jsonl").write_text("".join(json.dumps(row) + "\n" for row in anchors))
    groups: list[list[Trajectory]] = [
        [
            builders.episode(
                "x",
                problem=Problem(id=name, messages=[]),
                score=Score(value, "correct" if value else "wrong"),
                verdict="correct" if value else "wrong",
                metrics={"fidelity": value},
                group=name,
                episode=i,
            )
            for i, value in enumerate(values)
        ]
        for name, values in played.items()
    ]
    Logs(tmp_path / "play", writes=True, share=1.0).rollouts(0, groups, [])
    return {"tasks": str(tmp_path / "tasks.jsonl"), "rollouts": str(tmp_path / "play" / "rollouts.jsonl")}


def test_what_is_followed_is_kept(round_: dict[str, Any], tmp_path: Path) -> None:
    best, _, counts = kept_tasks(KeepOptions(env=MAZE, **round_))
    assert [row["id"] for row in best] == ["a", "b"]
    assert counts == {"tasks": 5, "tried": 4, "followed": 2, "anchors": 0, "kept": 2}
    assert [row["id"] for row in kept_tasks(KeepOptions(env=MAZE, threshold=0.5, **round_))[0]] == ["a", "c", "b"]
    anyhow = kept_tasks(KeepOptions(env=MAZE, threshold=0.0, **round_))[0]
    assert [row["id"] for row in anyhow] == ["a", "c", "b"], "who ends elsewhere has not followed"
    every, _, counts = kept_tasks(KeepOptions(env=MAZE, least_followed=0.0, **round_))
    assert ([row["id"] for row in every], counts["followed"]) == (["a", "b", "c", "d"], 2), "c and d never were"
    with pytest.raises(DataError, match="no task was followed"):
        kept_tasks(KeepOptions(env=MAZE, threshold=0.95, least_followed=0.9, **round_))


def test_anchors_stay_and_bound_the_others(round_: dict[str, Any], tmp_path: Path) -> None:
    """An anchor is to be half of all: beside it is one other task, the best."""
    made = KeepOptions(env=MAZE, anchors=str(tmp_path / "anchors.jsonl"), anchor_share=0.5, **round_)
    best, anchors, _ = kept_tasks(made)
    assert [row["id"] for row in (*anchors, *best)] == ["mine-a", "a"]


def test_an_anchor_may_leave_out_what_the_game_shows(round_: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "anchors.jsonl"
    row = json.loads(path.read_text())
    del row["shown"]
    path.write_text(json.dumps(row) + "\n")
    made, game = KeepOptions(env=MAZE, anchors=str(path), anchor_share=0.5, **round_), plugins.build("env", MAZE)
    write_kept(made, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "tasks.jsonl").read_text().splitlines()[0])["shown"] == game.shown(
        game.begin("5,3")
    )
    del row["reference"]
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"anchors\.jsonl.* an anchor without reference"):
        kept_tasks(made)


def test_rows_teach_the_agent_and_the_generator(round_: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_kept(KeepOptions(env=MAZE, **round_), out)
    files = [(out / f"{name}.jsonl").read_text().splitlines() for name in ("agent", "generator")]
    agent, generator = ([json.loads(line) for line in lines] for lines in files)
    first = [message["content"] for message in agent[0]["messages"] if message["role"] == "assistant"]
    assert first == [UP, "done"]
    shown = str(follow([UP], [UP])[0].messages[0]["content"])
    assert agent[0]["messages"][0]["content"].partition("\n")[2] == shown.partition("\n")[2]
    assert generator[0]["completion"][0]["content"] == "Do a."
    assert UP in generator[0]["prompt"][0]["content"]
