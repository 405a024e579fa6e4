"""The endgames: the tablebase against published counts and a search in plain Python, notation, opponents."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from llmrl.envs.chess_endgame import ChessEndgame, Match, Positions
from llmrl.games.endgame import (
    Board,
    best_move,
    black_moves,
    defended,
    is_mate,
    is_stalemate,
    mirrored,
    name,
    read_fen,
    read_move,
    white_moves,
)
from llmrl.games.tablebase import OPEN, Piece, tablebase

START = "8/8/8/3k4/8/8/8/KQ6 w - - 0 1"


def test_the_queen_has_the_counts_of_retrograde_analysis() -> None:
    base = tablebase("Q")
    assert base.white_legal.sum() == 144_508
    assert base.black_legal.sum() == 223_944
    assert base.mates.sum() == 364
    assert base.stalemates.sum() == 872
    assert (base.white[base.white_legal] != OPEN).sum() == 144_508
    assert (base.black != OPEN).sum() == 200_896
    assert base.white.max() == 19
    counts = zip(*np.unique(base.white, return_counts=True), strict=True)
    moves = {(int(plies) + 1) // 2: int(count) for plies, count in counts}
    moves.pop(0)  # OPEN
    assert moves == {
        1: 2448,
        2: 5012,
        3: 9064,
        4: 19964,
        5: 26164,
        6: 32064,
        7: 32104,
        8: 15000,
        9: 2680,
        10: 8,
    }


def test_the_rook_mates_within_sixteen_moves() -> None:
    base = tablebase("R")
    assert base.white_legal.sum() == 175_168
    assert base.white.max() == 31
    assert (base.white[base.white_legal] != OPEN).all()
    assert base.mates.sum() == 216


def attacked(square: int, king: int, man: int, piece: Piece, empty: set[int]) -> bool:
    """True if white attacks a square, by geometry alone: no table is read."""
    rank, file = divmod(square, 8)
    if max(abs(rank - king // 8), abs(file - king % 8)) == 1:
        return True
    ranks, files = rank - man // 8, file - man % 8
    straight, diagonal = (ranks == 0) != (files == 0), abs(ranks) == abs(files) != 0
    if not (straight or (diagonal and piece == "Q")):
        return False
    steps = max(abs(ranks), abs(files))
    between = [man + i * (8 * (ranks // steps) + files // steps) for i in range(1, steps)]
    return all(place in empty for place in between)


def slow_black_moves(board: Board) -> set[tuple[int, bool]]:
    """Squares to which the black king can go, and whether it takes the piece there."""
    assert board.man is not None
    found = set()
    for square in range(64):
        rank, file = divmod(square, 8)
        if max(abs(rank - board.other // 8), abs(file - board.other % 8)) != 1 or square == board.king:
            continue
        empty = set(range(64)) - {board.king, board.man, square}
        man = -100 if square == board.man else board.man
        near = max(abs(rank - board.king // 8), abs(file - board.king % 8)) == 1
        safe = not near if man < 0 else not attacked(square, board.king, board.man, board.piece, empty)
        if safe:
            found.add((square, square == board.man))
    return found


@pytest.mark.parametrize("piece", ["Q", "R"])
def test_moves_and_distances_agree_with_a_search_in_plain_python(piece: Piece) -> None:
    base, random, positions = tablebase(piece), Random(7), Positions(piece)
    for _ in range(150):
        board = read_fen(positions[random.randrange(len(positions))], piece)
        moves = white_moves(board)
        values = []
        for after in moves.values():
            replies = black_moves(after)
            slow = slow_black_moves(after)
            assert {(reply.other, reply.man is None) for reply in replies} == slow
            assert after.man is not None
            empty = set(range(64)) - {after.king, after.man, after.other}
            in_check = attacked(after.other, after.king, after.man, piece, empty)
            assert is_mate(after) == (not slow and in_check)
            assert is_stalemate(after) == (not slow and not in_check)
            value = int(base.black[after.place])
            if is_mate(after):
                assert value == 0
            elif not slow or any(taken for _, taken in slow):
                assert value == OPEN
            else:  # black delays as long as it can
                assert value == 1 + max(int(base.white[reply.place]) for reply in replies)
            if value != OPEN:
                values.append(value)
        assert int(base.white[board.place]) == 1 + min(values)
        best = moves[best_move(board)]
        assert int(base.black[best.place]) == min(values)


def test_the_eight_hardest_positions_take_ten_moves() -> None:
    base, game = tablebase("Q"), ChessEndgame()
    hardest = np.argwhere(base.white == 19)
    assert len(hardest) == 8
    for king, man, other in hardest.tolist():
        state, moves = Match(Board("Q", king, man, other)), 0
        while True:
            move = game.play(state, game.best(state))
            state, moves = move.state, moves + 1
            if move.end is not None:
                break
        assert (move.end, move.reward, moves) == ("won", 1.0, 10)


def test_notation_there_and_back() -> None:
    board = read_fen(START, "Q")
    assert board == Board("Q", 0, 1, 35)
    assert board.fen() == START
    assert (name(0), name(63), name(35)) == ("a1", "h8", "d5")
    positions = Positions("R")
    for index in range(0, len(positions), 9001):
        assert read_fen(positions[index], "R").fen() == positions[index]


@pytest.mark.parametrize(
    "fen",
    [
        "",
        "8/8/8/3k4/8/8/8/KQ6 b - - 0 1",
        "8/8/8/3k4/8/8/8/KR6 w - - 0 1",
        "8/8/8/3k4/8/8/8/KQQ5 w - - 0 1",
        "8/8/8/8/8/8/k7/KQ6 w - - 0 1",  # the kings touch
        "8/8/8/8/8/8/8/KQk5 w - - 0 1",  # in check
        "8/8/8/3k4/8/8/8/KQ7 w - - 0 1",
        "٨/8/8/3k4/8/8/8/KQ6 w - - 0 1",
        "9" * 100_000,
    ],
)
def test_what_is_no_position_is_refused(fen: str) -> None:
    with pytest.raises(ValueError, match=r"expected|attacked"):
        ChessEndgame().begin(fen)


def test_moves_are_read_with_and_without_blanks_and_signs() -> None:
    board = read_fen(START, "Q")
    queen_to_b5 = replace(board, man=33, halfmoves=1)
    for text in ("Qb5", "Q b 5", "Q b 5 +", "Qb1b5+", "Q1b5", "Qbb5", "Qb5#"):
        assert read_move(text, board) == queen_to_b5, text
    for text in ("", "Qa2b5", "Q2b5", "Kb1", "Qd8", "qb5", "b5", "Qb٥", "Qb5++", "Rb5", "Qa1", "K" * 2000):
        assert read_move(text, board) is None, text
    assert read_move("Ka2", board) == replace(board, king=8, halfmoves=1)


def test_texts_are_characters_parted_by_blanks() -> None:
    game = ChessEndgame(instructions=False)
    assert game.opening(game.begin(START)) == " ".join(START)
    move = game.play(game.begin(START), "Q b 5 +")
    assert move.reply.startswith("8 / 8 / ")
    assert move.reply.endswith("   w   -   -   2   2")
    assert (move.reward, move.end) == (0.0, None)


def test_an_illegal_move_costs_and_the_game_goes_on() -> None:
    game = ChessEndgame(max_moves=2)
    move = game.play(game.begin(START), "Q h 8")
    assert (move.reward, move.legal, move.end, move.state.board) == (-1.0, False, None, game.begin(START).board)
    assert game.play(move.state, "castle").end == "cut"


def test_draws() -> None:
    game = ChessEndgame()
    stalemate = game.play(game.begin("k7/8/8/1Q6/8/8/8/K7 w - - 0 1"), "Q b 6")
    assert (stalemate.end, stalemate.reward) == ("lost", 0.0)
    taken = game.play(game.begin("k7/8/8/1Q6/8/8/8/K7 w - - 0 1"), "Q b 7")
    assert (taken.end, taken.reward, taken.state.board.man) == ("lost", 0.0, None)
    assert "Q" not in taken.reply
    slow = game.begin("k7/8/8/1Q6/8/8/8/K7 w - - 148 90")
    assert game.play(slow, "K b 2").end == "lost"  # 75 moves of each side
    assert game.play(game.begin("k7/8/8/1Q6/8/8/8/K7 w - - 147 90"), "K b 2").end is None
    half = game.play(game.begin("k7/8/8/1Q6/8/8/8/K7 w - - 149 90"), "K b 2")  # black moves no more
    assert (half.end, half.reply) == ("lost", " ".join("k7/8/8/1Q6/8/8/1K6/8 b - - 150 90"))


def test_the_optimal_opponent_takes_the_piece() -> None:
    after = white_moves(read_fen("8/8/8/3k4/8/8/8/K3Q3 w - - 0 1", "Q"))["Qe4"]
    assert len(black_moves(after)) > 1
    assert defended(after, "optimal", 0.5, seed=0).man is None


def test_opponents_draw_by_the_position_alone() -> None:
    board = read_fen(START, "Q")
    after = white_moves(board)["Ka2"]
    best = defended(after, "optimal", 0.5, seed=0)
    assert int(tablebase("Q").white[best.place]) == max(int(tablebase("Q").white[b.place]) for b in black_moves(after))
    drawn = {defended(after, "random", 0.5, seed=seed).other for seed in range(60)}
    assert drawn == {reply.other for reply in black_moves(after)}
    assert defended(after, "random", 0.5, seed=3) == defended(after, "random", 0.5, seed=3)
    assert {defended(after, "mixed", 1.0, seed=seed) for seed in range(9)} == {best}
    mixed = [defended(after, "mixed", 0.5, seed=seed) == best for seed in range(200)]
    assert 0.4 < sum(mixed) / 200 < 0.75


def test_mirror_images_are_one_family() -> None:
    game = ChessEndgame()
    board = read_fen(START, "Q")
    images = {Board("Q", *place).fen() for place in mirrored(board.place)}
    assert len(images) == 8
    assert len({game.family(fen) for fen in images}) == 1
    assert {int(tablebase("Q").white[place]) for place in mirrored(board.place)} == {
        int(tablebase("Q").white[board.place])
    }
    assert game.family(START) != game.family("8/8/8/3k4/8/8/8/K1Q5 w - - 0 1")
