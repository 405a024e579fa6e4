"""Endgames of king and queen, or king and rook, against a king: every position solved by retrograde analysis.

Arrays have the axes white king, white piece, black king, each a square from 0 (a1) to 63 (h8), a file after the other
in a rank. Distances count plies (moves of one side) to mate under best play of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Piece = Literal["Q", "R"]
Flags = NDArray[np.bool_]
Plies = NDArray[np.int8]
STRAIGHT = ((0, 1), (0, -1), (1, 0), (-1, 0))
DIAGONAL = ((1, 1), (1, -1), (-1, 1), (-1, -1))
AROUND = STRAIGHT + DIAGONAL
"""Changes of rank and file."""
OPEN = -1
"""Distance of a position that nobody wins."""


def directions(piece: Piece) -> Sequence[tuple[int, int]]:
    """Directions in which the piece slides."""
    return AROUND if piece == "Q" else STRAIGHT


@dataclass(frozen=True, eq=False)
class Tablebase:
    """Every position of an endgame."""

    white_legal: Flags  # white to move
    black_legal: Flags  # black to move
    check: Flags  # the piece attacks the black king
    captures: Flags  # black, to move, can take the piece
    mates: Flags
    stalemates: Flags
    white: Plies  # to mate with white to move; OPEN: no win
    black: Plies  # to mate with black to move; OPEN: no loss


def shifted(values: NDArray[Any], axis: int, step: tuple[int, int]) -> NDArray[Any]:
    """Values one step further along the squares of an axis; 0 where the step leaves the board."""
    board = values.reshape([side for _ in range(3) for side in (8, 8)])
    moved = np.zeros_like(board)
    source, target = [slice(None)] * 6, [slice(None)] * 6
    for place, change in zip((2 * axis, 2 * axis + 1), step, strict=True):
        source[place] = slice(max(change, 0), 8 + min(change, 0))
        target[place] = slice(max(-change, 0), 8 - max(change, 0))
    moved[tuple(target)] = board[tuple(source)]
    return moved.reshape(64, 64, 64)


def slides(values: Flags, free: Flags, piece: Piece) -> Flags:
    """True where the piece, on its axis, slides to a position with a true value; `free`: it may stand there."""
    reached = np.zeros_like(values)
    for step in directions(piece):
        ray = values & free
        for _ in range(7):
            onward = shifted(ray, 1, step)
            reached |= onward
            ray = free & onward
    return reached


@cache
def tablebase(piece: Piece) -> Tablebase:
    """Solve an endgame; the first call takes about a second, later ones nothing."""
    rank, file = np.divmod(np.arange(64), 8)
    near = np.maximum(abs(rank[:, None] - rank), abs(file[:, None] - file)) <= 1
    king, man, other = np.ix_(*[np.arange(64)] * 3)
    apart = (king != man) & (man != other) & ~near[:, None, :]
    seen = np.broadcast_to(man == other, apart.shape)
    check = slides(seen, np.broadcast_to(man != king, apart.shape), piece) & apart
    white_legal = apart & ~check
    captures = apart & near[None, :, :] & ~near[:, :, None]
    moves = _king_moves(white_legal, 2)
    stuck = apart & ~moves & ~captures
    white, black = (np.full(apart.shape, OPEN, np.int8) for _ in range(2))
    black[stuck & check] = 0
    free = np.broadcast_to((man != king) & (man != other), apart.shape)
    for plies in range(0, 100, 2):
        lost = black == plies
        if not lost.any():
            break
        won = (_king_moves(lost, 0) | slides(lost, free, piece)) & white_legal & (white == OPEN)
        white[won] = plies + 1
        escapes = _king_moves(white_legal & (white == OPEN), 2)
        black[apart & moves & (black == OPEN) & ~captures & ~escapes] = plies + 2
    return Tablebase(white_legal, apart, check, captures, stuck & check, stuck & ~check, white, black)


def _king_moves(values: Flags, axis: int) -> Flags:
    """True where the king on the axis steps to a position with a true value."""
    reached: Flags = np.any([shifted(values, axis, step) for step in AROUND], axis=0)
    return reached
