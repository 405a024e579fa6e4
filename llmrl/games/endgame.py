"""Rules of the endgames: positions, moves in algebraic notation, and opponents that defend by the tablebase."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import Literal

from llmrl.games.tablebase import AROUND, OPEN, Piece, directions, tablebase

Opponent = Literal["optimal", "random", "mixed"]
QUIET = 150
"""Half-moves without a capture after which the game is a draw by itself: 75 moves of each side."""
FEN = re.compile(r"([1-8KQRk/]{15,40}) w - - ([0-9]{1,3}) ([0-9]{1,3})", re.ASCII)
NOTATION = re.compile(r"([KQR])([a-h]?[1-8]?)([a-h][1-8])[+#]?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Board:
    """A position with white to move; squares are 0 (a1) to 63 (h8)."""

    piece: Piece
    king: int
    man: int | None  # the white piece; None: it was taken
    other: int  # the black king
    halfmoves: int = 0  # since the beginning
    fullmoves: int = 1

    @property
    def place(self) -> tuple[int, int, int]:
        """Index into a tablebase."""
        assert self.man is not None
        return self.king, self.man, self.other

    def fen(self, side: str = "w") -> str:
        """The position in Forsyth-Edwards notation."""
        marks = {self.king: "K", self.other: "k"} | ({} if self.man is None else {self.man: self.piece})
        lines = []
        for rank in reversed(range(8)):
            line = "".join(marks.get(square, "1") for square in range(8 * rank, 8 * rank + 8))
            lines.append(re.sub("1+", lambda empty: str(len(empty[0])), line))
        return f"{'/'.join(lines)} {side} - - {self.halfmoves} {self.fullmoves}"


def read_fen(text: str, piece: Piece) -> Board:
    """The board of a notation.

    Raises:
        ValueError: no legal position of this endgame with white to move.
    """
    match = FEN.fullmatch(text)
    ranks = match[1].split("/") if match else []
    squares = [re.sub("[1-8]", lambda empty: "." * int(empty[0]), rank) for rank in ranks]
    if match is None or [len(rank) for rank in squares] != [8] * 8:
        raise ValueError(f"expected a position in Forsyth-Edwards notation with white to move, K, {piece} and k")
    marks = "".join(reversed(squares))
    if sorted(marks.replace(".", "")) != sorted(f"K{piece}k"):
        raise ValueError(f"expected the pieces K, {piece} and k")
    king, man, other = (marks.index(mark) for mark in f"K{piece}k")
    board = Board(piece, king, man, other, int(match[2]), int(match[3]))
    if not tablebase(piece).white_legal[board.place]:
        raise ValueError("the black king is attacked while white is to move, or the kings touch")
    return board


@lru_cache(maxsize=4096)
def white_moves(board: Board) -> Mapping[str, Board]:
    """White's legal moves in algebraic notation without signs for check, each with the position after it."""
    assert board.man is not None
    base = tablebase(board.piece)
    moves = {}
    for square in _steps(board.king):
        after = replace(board, king=square, halfmoves=board.halfmoves + 1)
        if base.black_legal[after.place]:
            moves[f"K{name(square)}"] = after
    for direction in directions(board.piece):
        for square in _ray(board.man, direction):
            if square in (board.king, board.other):
                break
            moves[f"{board.piece}{name(square)}"] = replace(board, man=square, halfmoves=board.halfmoves + 1)
    return moves


def black_moves(board: Board) -> list[Board]:
    """The positions after each legal move of the black king, from the lowest square up."""
    base = tablebase(board.piece)
    after = []
    for square in sorted(_steps(board.other)):
        board_after = replace(board, other=square, halfmoves=board.halfmoves + 1, fullmoves=board.fullmoves + 1)
        if square == board.man:
            if base.captures[board.place]:
                after.append(replace(board_after, man=None, halfmoves=0))
        elif base.white_legal[board_after.place]:
            after.append(board_after)
    return after


def defended(board: Board, opponent: Opponent, share: float, seed: int) -> Board:
    """The position after black's move.

    Args:
        opponent: `optimal` takes the piece if it can, else delays mate as long as possible, the lowest square first;
            `random` draws among all moves; `mixed` plays as `optimal` with probability `share`.
        seed: of the draws, which depend on nothing else but the position.
    """
    random = Random(f"{seed}/{board.fen('b')}")
    moves = black_moves(board)
    if opponent == "random" or (opponent == "mixed" and random.random() >= share):
        return random.choice(moves)
    base = tablebase(board.piece)
    return max(moves, key=lambda after: 1000 if after.man is None else int(base.white[after.place]))


def best_move(board: Board) -> str:
    """A move to the quickest mate."""
    base = tablebase(board.piece)
    won = {move: plies for move, after in white_moves(board).items() if (plies := int(base.black[after.place])) != OPEN}
    return min(won, key=won.__getitem__)  # never empty: white wins every position of these endgames


def read_move(text: str, board: Board) -> Board | None:
    """The position after a move in algebraic notation, as `Qd4`, `Q d 4 +` or `Qd1d4`; None: no legal move."""
    match = NOTATION.fullmatch("".join(text.split()))
    if match is None:
        return None
    start = board.king if match[1] == "K" else board.man
    assert start is not None
    if match[2] and match[2] not in (name(start), name(start)[0], name(start)[1]):
        return None
    return white_moves(board).get(match[1] + match[3])


def mirrored(place: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    """The eight places that are the same but for turns and reflections of the board, the given one first."""
    for turn in range(8):
        king, man, other = (_turned(square, turn) for square in place)
        yield king, man, other


@lru_cache(maxsize=512)
def _turned(square: int, turn: int) -> int:
    rank, file = divmod(square, 8)
    rank, file = (7 - rank if turn & 1 else rank), (7 - file if turn & 2 else file)
    return 8 * file + rank if turn & 4 else 8 * rank + file


def name(square: int) -> str:
    """Name of a square: 0 is `a1`."""
    return f"{'abcdefgh'[square % 8]}{square // 8 + 1}"


def is_mate(board: Board) -> bool:
    """True if black, to move, is mated."""
    return bool(tablebase(board.piece).mates[board.place])


def is_stalemate(board: Board) -> bool:
    """True if black, to move, has no move and is not attacked."""
    return bool(tablebase(board.piece).stalemates[board.place])


def _ray(square: int, direction: tuple[int, int]) -> Iterator[int]:
    rank, file = divmod(square, 8)
    while 0 <= (rank := rank + direction[0]) < 8 and 0 <= (file := file + direction[1]) < 8:
        yield 8 * rank + file


@lru_cache(maxsize=64)
def _steps(square: int) -> tuple[int, ...]:
    return tuple(there for direction in AROUND for there in list(_ray(square, direction))[:1])
