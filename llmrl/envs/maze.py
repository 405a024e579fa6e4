"""Mazes of LMRL-Gym in text: -1 for each move until the goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from llmrl.games.game import Move, TextGame
from llmrl.games.maze import LAYOUTS, STEPS, Cell, distances
from llmrl.games.scores import Scale

WALLS = {"right": "to your right", "left": "to your left", "up": "above you", "down": "below you"}
"""Directions in the order in which walls are listed."""


@dataclass(frozen=True, slots=True)
class Walk:
    """State of the maze: where the player stands, and after how many moves."""

    cell: Cell
    moves: int = 0


@dataclass(frozen=True)
class MazeGame(TextGame[Walk]):
    """A maze; a start is a cell, `row,column`.

    Rewards: 0 for the move that reaches the goal, -1 for any other move, -4 for a text that is no move. After
    `max_moves` moves the next one is answered by `Failure`, costs 1 and ends the game, which counts as cut off.
    Source: LMRL-Gym (arXiv 2311.18232); texts and numbers as in its code.
    """

    layout: Literal["double_t", "u"] = "double_t"
    observed: Literal["full", "partial"] = "full"  # partial: the walls around the player alone
    memory: bool = True  # False, if observed is full: each text is the whole prompt, without those before it
    max_moves: int = 100

    rules: ClassVar[str] = (
        "You are in a maze. Positions are row, column; `move down` leads to the next row, `move right` to the next "
        "column. Reach the goal in as few moves as possible. Answer with nothing but a move: move left, move right, "
        "move up or move down."
    )

    def __post_init__(self) -> None:
        if self.max_moves < 1:
            raise ValueError(f"max_moves {self.max_moves}: expected at least 1")
        if self.observed == "partial" and not self.memory:
            raise ValueError("memory is false where observed is partial: without its history the maze has no solution")

    def scale(self) -> Scale | None:
        """LMRL-Gym's constants of the double T: 101 moves, its data's mean, and the mean optimum of the 25 starts."""
        return Scale(-101.0, -83.0, -6.84) if self.layout == "double_t" and self.max_moves == 100 else None

    def forgets(self) -> bool:
        return not self.memory

    def starts(self) -> Sequence[str]:
        """Every free cell but the goal."""
        maze = LAYOUTS[self.layout]
        return [f"{row},{column}" for row, column in maze.cells() if (row, column) != maze.goal]

    def begin(self, start: str) -> Walk:
        if start not in self.starts():
            raise ValueError("expected a free cell that is not the goal, as row,column")
        row, column = start.split(",")
        return Walk((int(row), int(column)))

    def shown(self, state: Walk) -> str:
        maze = LAYOUTS[self.layout]
        walls = [name for direction, name in WALLS.items() if maze.moved(state.cell, direction) == state.cell]
        around = "There are no walls near you." if not walls else f"There are walls {', '.join(walls)}."
        if len(walls) == 1:
            around = f"There is a wall {walls[0]}."
        if self.observed == "partial":
            return f"{around}\n"
        goal, cell = (", ".join(" ".join(str(number)) for number in place) for place in (maze.goal, state.cell))
        return f"The goal is at position {goal}. Your current position is at position {cell}. {around}\n"

    def play(self, state: Walk, action: str) -> Move[Walk]:
        if state.moves >= self.max_moves:
            return Move(state, "Failure\n", -1.0, "cut")
        maze, direction = LAYOUTS[self.layout], action.removeprefix("move ")
        legal = action.startswith("move ") and direction in STEPS
        cell = maze.moved(state.cell, direction) if legal else state.cell
        after = replace(state, cell=cell, moves=state.moves + 1)
        if cell == maze.goal:
            return Move(after, "Success\n", 0.0, "won")
        return Move(after, self.shown(after), -1.0 if legal else -4.0, legal=legal)

    def actions(self, state: Walk) -> Sequence[str]:
        """The four moves."""
        return [f"move {direction}" for direction in STEPS]

    def best(self, state: Walk) -> str:
        """A move on a shortest way."""
        maze = LAYOUTS[self.layout]
        steps = distances(maze)
        return f"move {min(STEPS, key=lambda direction: steps[maze.moved(state.cell, direction)])}"


plugin = MazeGame
