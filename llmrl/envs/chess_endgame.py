"""Chess endgames in text: mate a lone king with king and queen, or king and rook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np

from llmrl.games.endgame import (
    QUIET,
    Board,
    Opponent,
    best_move,
    defended,
    is_mate,
    is_stalemate,
    mirrored,
    read_fen,
    read_move,
    white_moves,
)
from llmrl.games.game import Ending, Move, TextGame
from llmrl.games.tablebase import Piece, tablebase
from llmrl.recipe.ranges import Seed


@dataclass(frozen=True, slots=True)
class Match:
    """State of an episode: the position, and how many moves the player has tried."""

    board: Board
    tried: int = 0


@dataclass(frozen=True)
class ChessEndgame(TextGame[Match]):
    """White mates a lone king; a start is a position in Forsyth-Edwards notation.

    Reward 1 for mate, 0 for a draw and for every move before; an illegal move earns -1 and the game goes on. Draws are
    stalemate, a taken piece, and 75 moves of each side; repetition is not counted. Positions and moves are characters
    parted by blanks, as in LMRL-Gym (arXiv 2311.18232); moves are read without blanks, too. Every start is won.
    """

    piece: Piece = "Q"
    opponent: Opponent = "optimal"
    optimal_share: float = 0.5  # of the moves of a mixed opponent
    memory: bool = True  # False: each text is the whole prompt, without those before it
    max_moves: int = 400
    seed: Seed = 0  # of the opponent

    rules: ClassVar[str] = (
        "You play white in a chess endgame and are to mate the black king. Positions are given in FEN, its characters "
        "parted by blanks. Answer with nothing but a move in algebraic notation, its characters parted by blanks, such "
        "as: Q d 4"
    )

    def __post_init__(self) -> None:
        if not 0 <= self.optimal_share <= 1:
            raise ValueError(f"optimal_share {self.optimal_share}: expected 0 to 1")
        if self.max_moves < 1:
            raise ValueError(f"max_moves {self.max_moves}: expected at least 1")

    def forgets(self) -> bool:
        return not self.memory

    def starts(self) -> Sequence[str]:
        """Every legal position with white to move."""
        return Positions(self.piece)

    def family(self, start: str) -> str:
        """The first of the eight positions that are the same but for turns and reflections."""
        return " ".join(map(str, min(mirrored(read_fen(start, self.piece).place))))

    def begin(self, start: str) -> Match:
        return Match(read_fen(start, self.piece))

    def shown(self, state: Match) -> str:
        return " ".join(state.board.fen())

    def play(self, state: Match, action: str) -> Move[Match]:
        tried = state.tried + 1
        board = read_move(action, state.board)
        end: Ending | None = "cut" if tried >= self.max_moves else None
        if board is None:
            after = Match(state.board, tried)
            return Move(after, self.shown(after), -1.0, end, legal=False)
        if is_mate(board):
            return Move(Match(board, tried), " ".join(board.fen("b")), 1.0, "won")
        if is_stalemate(board) or board.halfmoves >= QUIET:
            return Move(Match(board, tried), " ".join(board.fen("b")), 0.0, "lost")
        after = Match(defended(board, self.opponent, self.optimal_share, self.seed), tried)
        drawn = after.board.man is None or after.board.halfmoves >= QUIET
        return Move(after, self.shown(after), 0.0, "lost" if drawn else end)

    def actions(self, state: Match) -> Sequence[str]:
        """The legal moves."""
        return [" ".join(move) for move in white_moves(state.board)]

    def best(self, state: Match) -> str:
        """A move to the quickest mate."""
        return " ".join(best_move(state.board))


class Positions(Sequence[str]):
    """The legal positions of an endgame with white to move, written when they are asked for."""

    def __init__(self, piece: Piece) -> None:
        self._piece = piece

    def __len__(self) -> int:
        return len(_places(self._piece))

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        king, man, other = np.unravel_index(_places(self._piece)[index], (64, 64, 64))
        return Board(self._piece, int(king), int(man), int(other)).fen()


@cache
def _places(piece: Piece) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.flatnonzero(tablebase(piece).white_legal)


plugin = ChessEndgame
