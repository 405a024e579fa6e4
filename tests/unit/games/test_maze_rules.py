"""Rules of the mazes against LMRL-Gym's figures, and their text against its sentences."""

from __future__ import annotations

import pytest

from llmrl.envs.maze import MazeGame, Walk
from llmrl.games.maze import LAYOUTS, STEPS, distances
from llmrl.games.scores import Scale
from tests.builders import some


def test_the_double_t_has_the_cells_and_the_optimum_of_the_benchmark() -> None:
    maze = LAYOUTS["double_t"]
    steps = distances(maze)
    assert (len(maze.rows), len(maze.rows[0])) == (10, 13)
    assert len(maze.cells()) == 26
    assert steps[(1, 1)] == 12
    starts = [cell for cell in maze.cells() if cell != maze.goal]
    # -1 for each move but the last
    assert sum(1 - steps[cell] for cell in starts) / len(starts) == pytest.approx(-6.84, abs=1e-9)


def test_the_u_leads_around_its_wall() -> None:
    maze = LAYOUTS["u"]
    assert distances(maze)[(3, 1)] == 6
    assert maze.goal == (3, 3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_distances_fulfil_bellman(layout: str) -> None:
    maze = LAYOUTS[layout]
    steps = distances(maze)
    for cell in some(maze.cells()):
        nearest = min(steps[maze.moved(cell, direction)] for direction in STEPS)
        assert steps[cell] == (0 if cell == maze.goal else 1 + nearest)


def test_rewards_are_those_of_the_paper() -> None:
    game = MazeGame()
    assert game.play(Walk((7, 6)), "move down").reward == 0.0
    assert game.play(Walk((7, 6)), "move down").end == "won"
    assert game.play(Walk((1, 1)), "move up").reward == -1.0  # against the wall
    assert game.play(Walk((1, 1)), "move up").state.cell == (1, 1)
    assert game.play(Walk((1, 1)), "jump").reward == -4.0
    assert not game.play(Walk((1, 1)), "jump").legal


def test_the_move_after_the_hundredth_fails() -> None:
    game, state = MazeGame(), Walk((1, 1))
    total = 0.0
    for _ in range(100):
        move = game.play(state, "move up")
        assert move.end is None
        state, total = move.state, total + move.reward
    last = game.play(state, "move right")
    assert (last.end, last.reply, total + last.reward) == ("cut", "Failure\n", -101.0)


def test_texts_are_those_of_the_benchmark() -> None:
    game = MazeGame(instructions=False)
    assert game.opening(game.begin("1,1")) == (
        "The goal is at position 8, 6. Your current position is at position 1, 1. "
        "There are walls to your left, above you, below you.\n"
    )
    # digits of longer numbers are parted
    assert "Your current position is at position 1, 1 1. " in game.opening(game.begin("1,11"))
    hidden = MazeGame(instructions=False, observed="partial")
    assert hidden.opening(hidden.begin("5,5")) == "There are walls above you, below you.\n"
    assert hidden.opening(hidden.begin("5,6")) == "There is a wall above you.\n"
    assert hidden.opening(hidden.begin("1,3")) == "There is a wall above you.\n"


@pytest.mark.parametrize("start", ["8,6", "0,0", "1", "", "1,1,1", "١,١", "-1,3"])
def test_what_is_no_start_is_refused(start: str) -> None:
    with pytest.raises(ValueError, match="free cell"):
        MazeGame().begin(start)


def test_a_partly_observed_maze_keeps_its_history() -> None:
    with pytest.raises(ValueError, match="memory"):
        MazeGame(observed="partial", memory=False)


def test_the_normalised_score_is_piecewise_linear() -> None:
    scale = MazeGame().scale()
    assert scale == Scale(-101.0, -83.0, -6.84)
    expected = {
        -72.1: 57.15598739495799,
        -56.4: 67.46323529411765,
        -48.1: 72.91228991596638,
        -6.97: 99.91465336134453,
        -37.7: 79.74002100840336,
        -71.755: 57.38248424369748,
        -40.12: 78.15126050420169,
    }
    assert scale is not None
    for value, score in expected.items():
        assert scale.score(value) == pytest.approx(score, abs=1e-6)
    assert [scale.score(value) for value in (-101, -92, -83, -6.84)] == pytest.approx([0, 25, 50, 100])
    assert MazeGame(layout="u").scale() is None
    with pytest.raises(ValueError, match="rise"):
        Scale(0.0, 1.0, 1.0)
