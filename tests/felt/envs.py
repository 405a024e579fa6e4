"""Environments: what they show and pay while answers that do not depend on it are given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from llmrl.games.buyer import TEMPERS
from llmrl.plugins import build
from llmrl.types import Message, Problem
from tests.felt import foreign
from tests.felt.elsewhere import HERE as ELSEWHERE
from tests.felt.foreign import call_of, calls, say
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
        "env wordle": [
            *game("wordle", "slate", "c r a n e", "s a s s y", vocabulary=[5]),
            *game("wordle", "e e r i e", "l e v e l", number=next(_with_one("e")), rule=["standard"]),
        ],
    } | _around_others()


def _with_one(letter: str) -> Iterator[int]:
    """Starts of wordle whose word has a letter once."""
    return (number for number, word in enumerate(build("env", "wordle").starts()) if word.count(letter) == 1)


def _around_others() -> dict[str, list[Probe]]:
    nav: Options = {"name": "text_nav", "instructions": False}
    short: Options = {**nav, "max_moves": 2}
    take, goals = (
        "take stale food from table",
        [
            {"text": "take the stale food", "when": {"stale food": "carried"}},
            {"text": "enter the dining room", "when": {"room": "dining room"}},
        ],
    )
    west = Problem(
        id="nav",
        messages=[{"role": "user", "content": "Go."}],
        info={"start": "living room", "own": goals[1:], "others": goals[:1], "reference": [take, "go west"]},
    )
    walk = [say(action) for action in (take, "go west", "go west", "open fridge", "done")]
    return {
        "env follow": [
            Probe(use=several(walk, [*walk[:2], walk[-1]], asked=west), base={"env": nav}, values={"env": [short]}),
            Probe(use=several(walk, asked=west), base={"env": nav}, values={"slack": [1.0]}, only=True),
        ],
        "env subgoals": [
            Probe(
                use=several(walk[:-1], asked=west),
                base={"env": nav, "goals": goals},
                values={
                    "env": [short],
                    "goals": [goals[:1]],
                    "goals_column": [],
                    "hint_share": [1.0],
                    "gamma": [0.5],
                    "alpha": [0.1],
                },
            ),
            Probe(
                use=several(walk[:-1], asked=west),
                base={"env": nav, "goals_column": "own"},
                values={"goals_column": ["others"]},
                only=True,
            ),
        ],
    } | _talks()


def _talks() -> dict[str, list[Probe]]:
    asked = Problem(id="sum", messages=[{"role": "user", "content": "12+34="}], answer="46", info={"start": "3"})
    talk = [say(line) for line in ("Hello! A red car with a sunroof?", "It is $20000.", "Take it.")]
    buyers = [replace(asked, info={"start": str(number)}) for number in range(5)]
    prices = [[say(f"It is ${thousands}000."), say("So?"), say("Well?")] for thousands in range(8, 60, 6)]
    sums = calls(*(call_of("calculator", expression=sum_) for sum_ in ("1000 + 1", "2 * 2")))
    tempers = [{"name": "car_buyer", "temper": temper} for temper in TEMPERS]
    return {
        "env perturbation": [
            Probe(
                use=several([say("57"), say("46")], [say("No!"), say("91")], asked=asked),
                base={"reward": "numeric", "allowed": "[0-9]*"},
                values={
                    "reward": [{"name": "length"}],
                    "request": ["Vex: {prompt}"],
                    "template": ["{text}; {prompt}"],
                    "allowed": [".*"],
                },
            )
        ],
        "env dialogue": [
            Probe(
                use=lambda env: [several(talk, *prices, asked=buyer)(env) for buyer in buyers],
                base={"simulators": tempers, "max_turns": 3},
                values={"simulators": [tempers[:1]], "max_turns": [1], "correct_from": [0.1]},
            )
        ],
        "simulator car_buyer": [Probe(use=_bought, values={"temper": list(TEMPERS)})],
        "env tools": [
            Probe(
                use=several([sums, say("1001")], asked=asked),
                base={"tools": ["calculator"]},
                values={
                    "tools": [[f"{ELSEWHERE}:calculator"]],
                    "max_calls": [1],
                    "max_characters": [2],
                },
            )
        ],
    }


def several(*episodes: Sequence[Message], asked: Problem) -> Callable[[Any], Any]:
    """A use: the observations of episodes with these answers."""
    return lambda env: [foreign.playing(*answers, asked=asked)(env) for answers in episodes]


def _bought(simulator: Any) -> Any:
    """Replies of buyers to prices, and their ratings."""
    said = [say("Hello! A red car?"), {"role": "user", "content": "Hm."}, say("It is $30000."), say("$9000, my last.")]

    async def talk(start: int) -> Any:
        problem = Problem(id="c", messages=[], info={"start": str(start)})
        return await simulator.reply(problem, said), await simulator.rate(problem, said)

    return [asyncio.run(talk(start)) for start in range(4)]
