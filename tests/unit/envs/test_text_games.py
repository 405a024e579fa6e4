"""Contract of every text game: episodes in messages, scripted players, and texts that mean harm."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any

import pytest

from llmrl import plugins
from llmrl.data.games import Games
from llmrl.errors import DataError, RecipeError
from llmrl.games.game import MAX_ACTION, GameEpisode, TextGame, action_of
from llmrl.games.play import Playthrough, play, scripted
from llmrl.protocols import Env, EnvFactory
from llmrl.types import Observation, Problem

GAMES: list[dict[str, Any]] = [
    {"name": "maze"},
    {"name": "maze", "layout": "u", "observed": "partial"},
    {"name": "maze", "memory": False, "instructions": False},
    {"name": "text_nav"},
    {"name": "text_nav", "observed": "partial"},
    {"name": "wordle"},
    {"name": "wordle", "rule": "standard", "vocabulary": 50},
    {"name": "twenty_questions"},
    {"name": "guess_city"},
    {"name": "guess_city", "answers": "yes_no"},
    {"name": "car_dealer"},
    {"name": "chess_endgame", "memory": False},
    {"name": "chess_endgame", "piece": "R", "opponent": "mixed"},
    {"name": "nim"},
    {"name": "nim", "opponent": "perfect", "heaps": 2, "largest": 9},
]
HOSTILE = {
    "empty": "",
    "NUL": "\0" * 500,
    "a megabyte": "move left " * 100_000,
    "a megabyte of dollars": "$" * 1_000_000,
    "a megabyte of digits": "Is it over " + "9" * 1_000_000,
    "a megabyte of thoughts": "<think>" * 140_000,
    "a megabyte of blanks": " " * 1_000_000,
    "brackets": "(" * 900 + "[" * 900,
    "digits that are not ASCII": "move ١ ٢ $٣٠٠٠٠ Qb٥ over ９ million",
    "half a character": "\ud800 move left \udfff",
    "letters without end": "ß" * 1999,
    "marks without end": "e" + "\u0301" * 1990,
    "newlines": "\n" * 1999,
    "many wishes": "is it (a " * 200,
    "many numbers": "over 1.1.1.1. " * 140,
}


def game_of(spec: dict[str, Any]) -> TextGame[Any]:
    game = plugins.build("env", spec)
    assert isinstance(game, TextGame)
    return game


def problems(spec: dict[str, Any], count: int) -> list[Problem]:
    return list(islice(Games(env=game_of(spec), split="all").problems(), count))


def played(spec: dict[str, Any], player: Any, problem: Problem) -> Playthrough:
    return asyncio.run(play(game_of(spec).make(problem), player))


def test_every_text_game_is_tested() -> None:
    names = {name for name in plugins.names("env") if isinstance(plugins.find("env", name), type)}
    text_games = {name for name in names if issubclass(plugins.find("env", name), TextGame)}
    assert text_games == {spec["name"] for spec in GAMES}
    assert len(text_games) == 8


@pytest.mark.parametrize("spec", GAMES, ids=str)
def test_an_episode_keeps_the_contract(spec: dict[str, Any]) -> None:
    game = game_of(spec)
    assert isinstance(game, EnvFactory)
    for number, problem in enumerate(problems(spec, 5)):
        episode = played(spec, scripted("oracle", number), problem)
        assert episode.first.messages == problem.messages
        for _, seen in episode.turns[:-1]:
            assert not seen.done
            assert seen.verdict is None
            assert [message["role"] for message in seen.messages] == ["user"]
            assert seen.messages[0]["content"]
            assert seen.whole == game.forgets()
        last = episode.last
        assert last.done
        assert not last.cut
        assert last.verdict in ("correct", "wrong")
        assert last.metrics["return"] == pytest.approx(episode.total)
        assert last.metrics["moves"] == len(episode.turns)
        assert last.metrics["illegal"] == 0


@pytest.mark.parametrize("spec", GAMES, ids=str)
def test_equal_seeds_give_equal_episodes(spec: dict[str, Any]) -> None:
    problem = problems(spec, 3)[-1]
    one, same, other = (played(spec, scripted("random", seed), problem) for seed in (1, 1, 2))
    assert one == same
    assert [action for action, _ in one.turns] != [action for action, _ in other.turns]


@pytest.mark.parametrize("spec", GAMES, ids=str)
def test_the_oracle_earns_more_than_a_random_player(spec: dict[str, Any]) -> None:
    totals: dict[str, float] = {"oracle": 0.0, "random": 0.0}
    for number, problem in enumerate(problems(spec, 12)):
        for player in totals:
            totals[player] += played(spec, scripted(player, number), problem).total  # type: ignore[arg-type]
    assert totals["oracle"] > totals["random"]


@pytest.mark.parametrize("spec", GAMES, ids=str)
def test_a_forgetful_text_shows_all_of_the_state(spec: dict[str, Any]) -> None:
    """A new episode from the shown state would go on as this one: the text is the opening of the state."""
    game = game_of(spec)
    if not game.forgets():
        return
    episode = game.make(problems(spec, 1)[0])

    async def second() -> Observation:
        await episode.reset()
        return await episode.step({"role": "assistant", "content": game.best(episode.state)})

    seen = asyncio.run(second())
    assert seen.whole
    assert seen.messages == [{"role": "user", "content": game.opening(episode.state)}]


@pytest.mark.timeout(60)  # a fifth of a second, or hours where time grows with the square
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("spec", GAMES, ids=str)
def test_hostile_texts_cost_a_turn_and_little_time(spec: dict[str, Any], kind: str) -> None:
    problem, text = problems(spec, 1)[0], HOSTILE[kind]
    game = game_of(spec)

    async def harm() -> Observation:
        episode = game.make(problem)
        await episode.reset()
        return await episode.step({"role": "assistant", "content": text})

    seen = asyncio.run(harm())
    assert seen.verdict != "correct"
    assert len(str(seen.messages)) < 2000


@pytest.mark.parametrize("content", [None, 5, ["move left"], {"text": "move left"}])
def test_a_message_without_text_is_an_empty_action(content: Any) -> None:
    assert action_of({"role": "assistant", "content": content}) == ""
    assert action_of({"role": "assistant"}) == ""


def test_thoughts_are_no_part_of_an_action() -> None:
    assert action_of({"role": "assistant", "content": "<think>left is shut</think>\n move right\n"}) == "move right"
    assert action_of({"role": "assistant", "content": "<think>move right"}) == ""
    assert action_of({"role": "assistant", "content": "x" * MAX_ACTION}) == "x" * MAX_ACTION
    assert action_of({"role": "assistant", "content": "x" * (MAX_ACTION + 1)}) == ""


def test_a_limit_cuts_off_and_the_task_itself_does_not() -> None:
    def stubborn(env: Env, seen: Observation) -> str:
        return "Is it alive?" if questions else "move up"

    questions = False
    maze = asyncio.run(play(game_of({"name": "maze"}).make(problems({"name": "maze"}, 1)[0]), stubborn))
    assert (maze.last.cut, maze.last.verdict, len(maze.turns)) == (True, "wrong", 101)
    assert maze.last.metrics["score"] == pytest.approx(0.0)
    questions = True
    spec = {"name": "twenty_questions"}
    asked = asyncio.run(play(game_of(spec).make(problems(spec, 1)[0]), stubborn))
    assert (asked.last.cut, asked.last.verdict, len(asked.turns)) == (False, "wrong", 20)


def test_illegal_actions_are_counted() -> None:
    actions = iter(["jump", "move right", "move right", "move down", "move down"])
    problem = Problem(id="m", messages=[], info={"start": "1,1"})
    u = {"name": "maze", "layout": "u"}
    episode = played(u, lambda env, seen: next(actions), problem)
    assert episode.last.metrics == {"return": -4.0 - 3.0, "moves": 5.0, "illegal": 1.0}


def test_an_episode_ends_once() -> None:
    episode: GameEpisode[Any] = game_of({"name": "maze"}).make(Problem(id="m", messages=[], info={"start": "7,6"}))

    async def beyond() -> None:
        await episode.reset()
        await episode.step({"role": "assistant", "content": "move down"})
        await episode.step({"role": "assistant", "content": "move down"})

    with pytest.raises(ValueError, match="problem m: the episode has ended"):
        asyncio.run(beyond())


@pytest.mark.parametrize("info", [{}, {"start": "8,6"}, {"start": 5}])
def test_a_problem_without_a_start_of_the_game_is_refused(info: dict[str, Any]) -> None:
    episode = game_of({"name": "maze"}).make(Problem(id="m", messages=[], info=info))
    with pytest.raises(DataError, match=r"problem m: info.start is .* make problems by data"):
        asyncio.run(episode.reset())


def test_other_environments_have_no_scripted_player() -> None:
    env = plugins.build("env", "single_turn").make(Problem(id="p", messages=[{"role": "user", "content": "2+2?"}]))
    with pytest.raises(RecipeError, match="Episode has no scripted player"):
        asyncio.run(play(env, scripted("oracle")))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "maze", "max_moves": 0}, "max_moves"),
        ({"name": "maze", "layout": "t"}, "double_t"),
        ({"name": "text_nav", "max_moves": 0}, "max_moves"),
        ({"name": "car_dealer", "max_lines": 1}, "max_lines"),
        ({"name": "chess_endgame", "optimal_share": 2}, "optimal_share"),
        ({"name": "chess_endgame", "max_moves": 0}, "max_moves"),
        ({"name": "chess_endgame", "piece": "N"}, "piece"),
    ],
)
def test_options_are_checked(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        plugins.build("env", spec)
