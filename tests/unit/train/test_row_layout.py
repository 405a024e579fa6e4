from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
import torch

from llmrl.train.row_layout import CALL, RowLayout
from tests.rows import packed, padded


def layout_of(rows: Sequence[Sequence[int]], way: Any = packed) -> tuple[RowLayout, list[int]]:
    """Of rows of tokens, and the tokens of its stream."""
    ids, _, owners = way([torch.tensor(row) for row in rows])
    rows_there = RowLayout.of(ids, owners)
    stream = ids.flatten()[rows_there.source].tolist()
    real = (owners >= 0).flatten()
    assert [stream[i] for i in rows_there.place[real].tolist()] == ids.flatten()[real].tolist()
    return rows_there, stream


def seen(rows: RowLayout) -> list[list[int]]:
    """Places in the stream that each of its tokens sees, in the order of its keys."""
    length = len(rows.source)
    counts = length, length, sum(call.rows * call.queries for call in rows.calls)
    queries, keys, answers = (
        (torch.arange(count) if places is None else places).tolist()
        for count, places in zip(counts, (rows.queries, rows.keys, rows.answers), strict=True)
    )
    found: list[list[int]] = []
    asked: list[int] = []
    for call in rows.calls:
        mask = torch.ones(call.queries, call.keys, dtype=torch.bool).tril() if call.mask is None else call.mask
        masks = mask.expand(call.rows, 1, call.queries, call.keys)[:, 0]
        for row in range(call.rows):
            own = [keys.pop(0) for _ in range(call.keys)]
            asked += [queries.pop(0) for _ in range(call.queries)]
            found += [[key for key, shown in zip(own, line, strict=True) if shown] for line in masks[row].tolist()]
    assert queries == keys == []
    assert [asked[i] for i in answers] == list(range(length)), "an answer is of the token that asked"
    return [found[i] for i in answers]


def drawn(seed: int) -> list[list[int]]:
    """Rows of groups that share long or short beginnings, of any lengths; some are equal."""
    random = Random(seed)
    rows = []
    for _ in range(random.randint(1, 5)):
        prompt = [random.randrange(50) for _ in range(random.choice([1, 5, 9, 20, 90]))]
        for _ in range(random.randint(1, 6)):
            own = random.choice([0, 1, 3, 4, 30, random.randint(1, 200)])
            rows.append(prompt + [random.randrange(3) for _ in range(own)])
    return rows


LAST_IS_PADDED = [[1] * 20, [2] * 19]


@pytest.mark.parametrize("way", [padded, packed])
@pytest.mark.parametrize("rows", [*map(drawn, range(12)), LAST_IS_PADDED])
def test_each_token_sees_its_row_up_to_itself(rows: list[list[int]], way: Any) -> None:
    found, stream = layout_of(rows, way)
    read = [[stream[i] for i in places] for places in seen(found)]
    _, _, owners = way([torch.tensor(row) for row in rows])
    real = (owners >= 0).flatten()
    asked = iter(found.place[real].tolist())
    for row in rows:
        for end in range(1, len(row) + 1):
            assert read[next(asked)] == row[:end]


@pytest.mark.parametrize("way", [padded, packed])
def test_a_beginning_that_neighbours_share_stands_once(way: Any) -> None:
    same = list(range(100, 110))
    _, stream = layout_of([[*same, 1, 2], [*same, 3], [9, 8, 7], same], way)
    assert stream == [*same, 1, 2, 3, 9, 8, 7, *same], "the last row has no neighbour like it"


def test_a_row_that_is_all_shared_has_no_tokens_of_its_own() -> None:
    same = list(range(100, 110))
    _, stream = layout_of([[*same, 1], same, same])
    assert stream == [*same, 1]


def test_two_prompts_with_a_common_start_are_two_runs_where_that_saves_more() -> None:
    system, one, other = list(range(10)), list(range(100, 130)), list(range(200, 230))
    rows = [[*system, *prompt, answer] for prompt in (one, other) for answer in (1, 2, 3)]
    assert len(layout_of(rows)[1]) == 2 * (40 + 3)
    short = [[*system, prompt, answer] for prompt in (50, 60) for answer in (1, 2)]
    assert len(layout_of(short)[1]) <= 2 * 13


def test_short_rows_are_attended_in_few_calls() -> None:
    random = Random(0)
    prompts = [[random.randrange(3, 90) for _ in range(random.randint(14, 16))] for _ in range(32)]
    rows = [[*prompt, *(random.randrange(3) for _ in range(random.randint(2, 5)))] for prompt in prompts * 8]
    assert len(layout_of(sorted(rows))[0].calls) <= 3


def test_no_row_is_padded_by_more_than_a_call_costs() -> None:
    rows = drawn(5) + drawn(6) + [[1] * length for length in (300, 290, 100, 99, 98, 20)]
    found, _ = layout_of(rows)
    pairs = sum(len(keys) for keys in seen(found))
    computed = sum(call.rows * call.queries * call.keys for call in found.calls)
    again = sum((len(row) ** 2 for row in rows), 0)
    assert computed <= again + CALL * 2 * len(rows)
    assert pairs < computed


def test_equal_rows_that_share_nothing_are_read_as_they_stand() -> None:
    found, _ = layout_of([[row] * 20 for row in range(6)])
    assert (found.queries, found.keys, found.answers) == (None, None, None)
    assert [(call.rows, call.queries, call.keys, call.mask) for call in found.calls] == [(6, 20, 20, None)]
