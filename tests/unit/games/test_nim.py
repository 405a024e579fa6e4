"""Nim: its exact solver against the whole tree, and episodes of one player and of two."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from llmrl.data.games import Games
from llmrl.envs.nim import Heaps, Nim
from llmrl.games.play import play, scripted
from llmrl.types import Observation, Problem

GAME = Nim()


@cache
def solved(heaps: Heaps) -> bool:
    """True if the player to move wins: some move leads to a state that the other loses. By looking at all of them."""
    after = [GAME.ply(heaps, action) for action in GAME.actions(heaps)]
    return any(move.end == "won" or not solved(move.state) for move in after)


def test_the_solver_agrees_with_the_whole_tree() -> None:
    states = [(a, b, c) for a in range(5) for b in range(5) for c in range(5) if a + b + c]
    assert [GAME.wins(state) for state in states] == [solved(state) for state in states]
    for state in states:
        move = GAME.ply(state, GAME.best(state))
        assert move.legal
        assert not solved(state) or move.end == "won" or not solved(move.state), "a best move keeps a won game won"


def test_starts_are_won_and_moves_are_read() -> None:
    assert len(GAME.starts()) == 19, "20 multisets of three sizes up to 4, and 1,2,3 cancels"
    assert GAME.shown((1, 0, 4)) == "a1 b0 c4"
    assert GAME.ply((1, 0, 4), "c3").state == (1, 0, 1)
    assert GAME.ply((1, 0, 4), "c 3").state == (1, 0, 1)
    for text in ("", "b1", "c5", "d1", "c0", "c", "cc", "take 1 from c", "c-1", "c١"):
        move = GAME.ply((1, 0, 4), text)
        assert (move.legal, move.end, move.reward) == (False, "lost", -1.0)


def won(opponent: str, player: str, side: str = "first", **options: Any) -> float:
    game = Nim(opponent=opponent, player=side, **options)  # type: ignore[arg-type]
    problems = list(Games(env=game, split="all").problems())
    ends = [asyncio.run(play(game.make(p), scripted(player, n))) for n, p in enumerate(problems)]  # type: ignore[arg-type]
    return sum(end.last.verdict == "correct" for end in ends) / len(ends)


def test_the_perfect_player_wins_what_is_won_and_no_other() -> None:
    assert won("perfect", "oracle") == 1.0
    assert won("random", "oracle") == 1.0
    assert won("perfect", "random") < 0.3
    assert won("perfect", "oracle", "second") == 0.0, "the first player wins every start"


def two(start: str, *moves: str, **options: Any) -> list[Observation]:
    game = Nim(opponent="agent", **options)

    async def run() -> list[Observation]:
        episode = game.make(Problem(id="nim", messages=[], info={"start": start}))
        seen = [await episode.reset()]
        for move in moves:
            seen.append(await episode.step({"role": "assistant", "content": move}))
        return seen

    return asyncio.run(run())


def test_two_agents_play_in_turn() -> None:
    """1,1,1: a1 leaves 1,1 (the other loses); b1 leaves 1; c1 wins for the first."""
    seen = two("1,1,1", "a1", "b1", "c1")
    assert [each.agent for each in seen] == ["first", "second", "first", "second"]
    assert [str(each.messages[0]["content"])[-8:] for each in seen[:3]] == ["a1 b1 c1", "a0 b1 c1", "a0 b0 c1"]
    last = seen[-1]
    assert (last.done, last.verdict, last.reward, dict(last.rewards)) == (True, "correct", 1.0, {"second": -1.0})
    assert last.metrics == {"moves": 3.0, "illegal": 0.0, "first_won": 1.0, "best_moves": 1.0}


def test_the_verdict_is_that_of_the_player() -> None:
    """The second player loses a game that the first wins: an opponent in its place is not to be called right."""
    last = two("1,1,1", "a1", "b1", "c1", player="second")[-1]
    assert (last.verdict, last.reward, last.metrics["first_won"]) == ("wrong", 1.0, 1.0)


def test_no_move_loses_and_teaches_the_other_nothing() -> None:
    last = two("1,1,2", "c1", "z9")[-1]  # c1 leaves 1,1,1: won for the second player, who says nonsense
    assert (last.reward, dict(last.rewards), last.verdict) == (-1.0, {"first": 0.0}, "correct")
    assert last.metrics["best_moves"] == 0.0, "of two won games each was thrown away"
