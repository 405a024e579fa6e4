"""Environments: what they show and pay while answers that do not depend on it are given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import Any

from llmrl.types import Problem
from tests.felt.probe import Options, Probe

BEST = ("the best move",) * 5
NONE: Options = {}


def playing(problem: Problem, moves: Sequence[str]) -> Any:
    """A use: the observations of an episode."""

    async def play(factory: Any) -> Any:
        env = factory.make(problem)
        shown = [await env.reset()]
        for move in moves:
            if shown[-1].done:
                break
            said = env.game.best(env.state) if move is BEST[0] else move
            shown.append(await env.step({"role": "assistant", "content": said}))
        await env.close()
        return shown

    return lambda factory: asyncio.run(play(factory))


def game(name: str, *moves: str, number: int = 0, base: Options = NONE, **values: Any) -> list[Probe]:
    """Probes of a game: an episode of a start, by these moves and then the best ones, and the starts that there are."""

    def starts(factory: Any) -> Any:
        found = factory.starts()
        return [len(found), *islice(found, 9)]

    def use(factory: Any) -> Any:
        start = list(islice(factory.starts(), number + 1))[-1]
        problem = Problem(id="g", messages=[], info={"start": start})
        return [playing(problem, moves)(factory), playing(problem, BEST)(factory)]

    return [Probe(use=use, base=base, values=values), Probe(use=starts, base=base)]


def probes() -> dict[str, list[Probe]]:
    board = ("Kb6", "Kc5", "Kb5", "Kc4", "Kd4", "Ke4", "Qa1", "Qh8", "Rh8")
    walk = ("move up", "move right", "move left", "move down")
    return {
        "env car_dealer": game("car_dealer", *("Hello! $50000 is the price.",) * 8, max_lines=[2]),
        "env chess_endgame": [
            each
            for number in (3000, 9000)
            for each in game(
                "chess_endgame",
                *board,
                number=number,
                base={"opponent": "mixed"},
                max_moves=[1],
                optimal_share=[0.0, 1.0],
                seed=[1, 2, 3],
            )
        ],
        "env guess_city": game("guess_city", "Which continent is it in?", "Is it Paris?", "Has it a river?"),
        "env maze": game("maze", *walk, max_moves=[1]),
        "env nim": game("nim", "a1", "b1", "c1", "b1", number=3, seed=[1, 2, 3]),
        "env text_nav": game("text_nav", "go north", "go south", "look", max_moves=[1]),
        "env twenty_questions": game("twenty_questions", "Is it alive?", "Is it a dog?", "Is it big?"),
        "env wordle": game(
            "wordle",
            "slate",
            "c r a n e",
            "e e r i e",
            "l e v e l",
            "s a s s y",
            "a l l e y",
            "l l a m a",
            vocabulary=[5],
        ),
    }
