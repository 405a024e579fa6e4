"""A house in text: find the stale food and put it into the fridge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from llmrl.games.game import Move, TextGame
from llmrl.games.house import CARRIED, CLOSABLE, EXITS, THINGS, House, commands, plan

LOOKING = ("look", "inventory")
"""Commands that change nothing, and are not listed."""


@dataclass(frozen=True)
class TextNav(TextGame[House]):
    """A house of eight rooms; a start is the room in which the player begins.

    Reward 1 when the stale food lies in the closed fridge. Eating it ends the game, and so does the limit of moves,
    which counts as cut off; everything else earns 0. Rooms, things and goal are those of LMRL-Gym
    (arXiv 2311.18232), whose game runs in TextWorld; the sentences are ours.
    """

    observed: Literal["full", "partial"] = "full"  # partial: neither the room's name nor the inventory is shown
    max_moves: int = 50

    rules: ClassVar[str] = (
        "You are in a house. Your objective is to put the stale food on the table in the living room into the fridge "
        "in the kitchen, and to close the fridge. Answer with nothing but a command, such as one of those listed as "
        "admissible."
    )

    def __post_init__(self) -> None:
        if self.max_moves < 1:
            raise ValueError(f"max_moves {self.max_moves}: expected at least 1")

    def starts(self) -> Sequence[str]:
        """The rooms."""
        return list(EXITS)

    def begin(self, start: str) -> House:
        if start not in EXITS:
            raise ValueError(f"expected one of {', '.join(EXITS)}")
        return House(start)

    def facts(self, state: House) -> Mapping[str, Any]:
        """Room, what is open, and the place of each thing."""
        return {"room": state.room, "opened": state.opened, **dict(zip(THINGS, state.places, strict=True))}

    def shown(self, state: House) -> str:
        exits = sorted(EXITS[state.room])
        ways = f"There {'is an exit' if len(exits) == 1 else 'are exits'} to the {_listed(exits)}."
        sentences = [self._furniture(state), self._floor(state), ways]
        if self.observed == "full":
            sentences = [f"You are in the {state.room}.", *sentences, self._inventory(state)]
        return f"{' '.join(filter(None, sentences))}\nAdmissible commands: {', '.join(commands(state))}\n"

    def play(self, state: House, action: str) -> Move[House]:
        command = " ".join(action.lower().split())
        admissible = commands(replace(state, moves=0))
        after = replace(admissible.get(command, state), moves=state.moves + 1)
        legal = command in admissible or command in LOOKING
        if after.is_stored() and not state.is_stored():
            return Move(after, "The stale food is in the fridge, and the fridge is closed. You have won.\n", 1.0, "won")
        if after.is_lost():
            return Move(after, "You have eaten the stale food. You have lost.\n", 0.0, "lost")
        if after.moves >= self.max_moves:
            return Move(after, "There is no time left. You have lost.\n", 0.0, "cut", legal)
        said = "" if legal else "That is no command here. "
        if command == "inventory" and self.observed == "partial":
            said = f"{self._inventory(state)} "
        return Move(after, said + self.shown(after), 0.0, legal=legal)

    def actions(self, state: House) -> Sequence[str]:
        """The admissible commands."""
        return list(commands(replace(state, moves=0)))

    def best(self, state: House) -> str:
        """The first command of a shortest plan."""
        return plan(state)[0]

    def _furniture(self, state: House) -> str:
        furniture, things = state.furniture(), state.at(f"in {state.room}")
        if furniture is None:
            return ""
        if not state.is_open():
            return f"You see a closed {furniture}."
        kind = f"an open {furniture}" if furniture in CLOSABLE else f"a {furniture}"
        where = "In" if furniture in CLOSABLE else "On"
        return f"You see {kind}. {where} the {furniture} {_there(things)}."

    def _floor(self, state: House) -> str:
        things = state.at(f"floor {state.room}")
        return f"On the floor {_there(things)}." if things else ""

    def _inventory(self, state: House) -> str:
        things = state.at(CARRIED)
        return f"You are carrying {_listed([f'the {thing}' for thing in things])}." if things else "You carry nothing."


def _there(things: Sequence[str]) -> str:
    if not things:
        return "there is nothing"
    verb = "is" if len(things) == 1 and things != ["utensils"] else "are"
    return f"there {verb} {_listed([f'the {thing}' for thing in things])}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


plugin = TextNav
