"""Rules of the mazes: cells, walls, and the way to the goal."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

Cell = tuple[int, int]
STEPS: Mapping[str, Cell] = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
"""Change of row and column by direction."""


@dataclass(frozen=True, slots=True)
class Maze:
    """A grid whose border is wall: `1` is a wall and `0` a free cell."""

    rows: tuple[str, ...]
    goal: Cell

    def is_free(self, cell: Cell) -> bool:
        """True for a cell without a wall."""
        return self.rows[cell[0]][cell[1]] == "0"

    def cells(self) -> list[Cell]:
        """The free cells, row by row."""
        grid = [(row, column) for row, line in enumerate(self.rows) for column in range(len(line))]
        return [cell for cell in grid if self.is_free(cell)]

    def moved(self, cell: Cell, direction: str) -> Cell:
        """The cell behind a step in that direction; a wall leaves the player where it is."""
        row, column = STEPS[direction]
        there = (cell[0] + row, cell[1] + column)
        return there if self.is_free(there) else cell


@cache
def distances(maze: Maze) -> Mapping[Cell, int]:
    """Number of steps from each cell to the goal, by breadth-first search."""
    steps, queue = {maze.goal: 0}, deque([maze.goal])
    while queue:
        cell = queue.popleft()
        for direction in STEPS:
            there = maze.moved(cell, direction)
            if there not in steps:
                steps[there] = steps[cell] + 1
                queue.append(there)
    return steps


LAYOUTS: Mapping[str, Maze] = {
    "double_t": Maze(
        (
            "1111111111111",
            "1000001000001",
            "1110111110111",
            "1110111110111",
            "1110111110111",
            "1110000000111",
            "1111110111111",
            "1111110111111",
            "1111110111111",
            "1111111111111",
        ),
        goal=(8, 6),
    ),
    "u": Maze(("11111", "10001", "10101", "10101", "11111"), goal=(3, 3)),
}
"""Mazes of LMRL-Gym (arXiv 2311.18232)."""
