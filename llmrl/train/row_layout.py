"""The layout of rows without padding: which tokens stand in the stream, and which calls of attention see which of them.

Rows stand behind one another, and a beginning that neighbours share stands once. Everything between two attentions then
has real tokens alone. Attention gathers them again, rows of alike lengths padded to the longest: few calls, as a call
costs as much as a short row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrl.samples import Array

LEAST = 8  # tokens that a beginning must have to be shared
CALL = 1024  # pairs of a query and a key that take as long as a call by itself: benchmarks/cpu.py rows
_AGAIN = 4  # widths of the shared part from which on a row computes that part's queries again, and needs no mask


@dataclass(frozen=True, slots=True)
class Call:
    """Rows that one call of the attention kernel sees, padded at their end to the longest."""

    rows: int
    queries: int
    keys: int
    mask: Tensor | None  # (rows or 1, 1, queries, keys) bool, True where a query sees a key; None: causal


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Layout of the rows of a batch as a stream of tokens; an argument of the decoder, which hands it down."""

    source: Tensor  # (N,) int64: place in the flat batch of each token of the stream
    place: Tensor  # (B * T,) int64: place in the stream of each token of the batch; 0 for padding, which nobody reads
    calls: Sequence[Call]
    queries: Tensor | None  # int64: places in the stream of the queries of all calls, row by row; 0 for padding
    keys: Tensor | None  # the same of their keys; None: those of the stream, as they stand
    answers: Tensor | None  # (N,) int64: place among the queries of each token of the stream

    @classmethod
    def of(cls, token_ids: Tensor, sample_ids: Tensor) -> RowLayout:
        """Find the rows of (B, T) tokens, padded or packed, and the beginnings that neighbours share."""
        ids, owner = token_ids.flatten().numpy(), sample_ids.flatten().numpy()
        real = np.flatnonzero(owner >= 0)
        places = np.split(real, np.flatnonzero(np.diff(owner[real])) + 1)
        stream: list[Array] = []
        place: Array = np.zeros(len(ids), np.int64)
        spans: list[_Span] = []
        length = 0

        def put(tokens: Array, start: int, shared: int) -> None:
            nonlocal length
            place[tokens] = np.arange(length, length + len(tokens))
            if len(tokens):
                spans.append(_Span(length, length + len(tokens), start, shared))
                stream.append(tokens)
                length += len(tokens)

        for rows, shared in _beginnings([ids[row] for row in places]):
            first = length
            if shared:
                put(places[rows[0]][:shared], first, 0)
            for row in rows:
                place[places[row][:shared]] = np.arange(first, first + shared)
                put(places[row][shared:], first, shared)
        calls = [_gathered(call) for call in _alike(spans)]
        queries, keys = (np.concatenate([call[i].ravel() for call in calls]) for i in (1, 2))
        answers: Array = np.zeros(length, np.int64)
        places_of_answers = np.concatenate([call[3].ravel() for call in calls])
        own = np.flatnonzero(places_of_answers)
        answers[queries[own]] = own
        return cls(
            source=torch.from_numpy(np.concatenate(stream)),
            place=torch.from_numpy(place),
            calls=[call[0] for call in calls],
            queries=_unless_all(queries, length),
            keys=_unless_all(keys, length),
            answers=_unless_all(answers, len(queries)),
        )


@dataclass(frozen=True, slots=True)
class _Span:
    """Tokens that stand behind one another in the stream, and see the shared ones before them, and themselves."""

    start: int
    end: int
    first: int  # of the shared ones
    shared: int  # how many there are

    @property
    def again(self) -> bool:
        """True if the queries of the shared tokens are computed again, which spares a mask where they are few."""
        return self.end - self.start > _AGAIN * self.shared

    @property
    def keys(self) -> int:
        """How many tokens it sees."""
        return self.shared + self.end - self.start

    @property
    def queries(self) -> int:
        """How many tokens see."""
        return self.keys if self.again else self.end - self.start


def _unless_all(places: Array, length: int) -> Tensor | None:
    """Places to gather; None where those are all, as they stand."""
    return None if np.array_equal(places, np.arange(length)) else torch.from_numpy(places)


def _alike(spans: Sequence[_Span]) -> Iterator[list[_Span]]:
    """Spans that one call computes: of one kind, the longest first, while padding one more costs less than a call."""
    call: list[_Span] = []
    queries = keys = 0
    for span in sorted(spans, key=lambda span: (span.again, span.keys, span.queries), reverse=True):
        asked, seen = max(queries, span.queries), max(keys, span.keys)
        padding = asked * seen * (len(call) + 1) - queries * keys * len(call) - span.queries * span.keys
        if call and (span.again != call[0].again or padding > CALL):
            yield call
            call, asked, seen = [], span.queries, span.keys
        call.append(span)
        queries, keys = asked, seen
    yield call


def _gathered(spans: Sequence[_Span]) -> tuple[Call, Array, Array, Array]:
    """A call, (rows, queries) and (rows, keys) places in the stream, and whether the query's answer is read."""
    counts = [(span.queries, span.keys) for span in spans]
    most, width = (max(column) for column in zip(*counts, strict=True))
    queries: Array = np.zeros((len(spans), most), np.int64)
    keys: Array = np.zeros((len(spans), width), np.int64)
    read: Array = np.zeros((len(spans), most), bool)
    for row, (span, (asked, seen)) in enumerate(zip(spans, counts, strict=True)):
        keys[row, : span.shared] = np.arange(span.first, span.first + span.shared)
        keys[row, span.shared : seen] = np.arange(span.start, span.end)
        queries[row, :asked] = keys[row, seen - asked : seen]
        read[row, asked - (span.end - span.start) : asked] = True
    return Call(len(spans), most, width, _mask(spans, most, width)), queries, keys, read


def _mask(spans: Sequence[_Span], queries: int, keys: int) -> Tensor | None:
    """Mask of own tokens that see the shared ones besides those of their own before them."""
    if spans[0].again:
        return None
    shared = torch.tensor(sorted({span.shared for span in spans}))
    if len(shared) > 1:
        shared = torch.tensor([span.shared for span in spans])
    return torch.arange(keys) <= shared[:, None, None, None] + torch.arange(queries)[:, None]


def _beginnings(rows: Sequence[Array]) -> Iterator[tuple[range, int]]:
    """Runs of neighbours, and how many tokens at their beginning they share: as runs grow while that saves more."""
    first, shared = 0, len(rows[0])
    for row in range(1, len(rows) + 1):
        same = _same(rows[first][:shared], rows[row]) if row < len(rows) else 0
        if same >= LEAST and same * (row - first) > shared * (row - first - 1):
            shared = same
            continue
        yield range(first, row), shared if row - first > 1 else 0
        if row < len(rows):
            first, shared = row, len(rows[row])


def _same(left: Array, right: Array) -> int:
    """Number of tokens at the beginning that are equal."""
    width = min(len(left), len(right))
    unequal = np.flatnonzero(left[:width] != right[:width])
    return int(unequal[0]) if len(unequal) else width
