"""Columns beside stored rows: bit for bit the same, and refused where model, rows or tokens are others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from llmrl.errors import DataError
from llmrl.offline.stored_columns import ColumnCard, ColumnStore, stored, write
from llmrl.samples import Sample
from tests.builders import row

CARD = ColumnCard(column="ref_logprobs", fingerprint="model-a", rows="rows-a")


def samples(number: int, filled: bool = True) -> list[Sample]:
    """A pair of answers of different lengths, whose tokens tell the row."""
    generator = np.random.default_rng(number)
    made = []
    for side, actions in enumerate((2, 3 + number % 2)):
        ids = [number, side, *[5] * (actions - 1)]
        numbers = generator.normal(size=actions + 1).astype(np.float32) if filled else None
        made.append(row(str(number), side, actions=actions).with_columns(token_ids=ids, ref_logprobs=numbers))
    return made


def kept(folder: Path, rows: Sequence[int] = (0, 2, 5), card: ColumnCard = CARD) -> Path:
    assert write(folder, [card], ((number, samples(number)) for number in rows)) == len(rows)
    return folder


def test_columns_come_back_bit_for_bit(tmp_path: Path) -> None:
    folder = kept(tmp_path / "columns")
    assert stored(folder) == {"ref_logprobs"}
    store = ColumnStore(folder, "rows-a", {"reference": "model-a"})
    for number in (5, 0, 2):
        for expected, found in zip(samples(number), store.attach(number, samples(number, filled=False)), strict=True):
            masked = np.where(expected.action_mask, expected.ref_logprobs, 0.0).astype(np.float32)
            assert found.ref_logprobs.astype(np.float32).tobytes() == masked.tobytes()


def test_a_stale_column_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    folder = kept(tmp_path)
    with pytest.raises(
        DataError, match=r"ref_logprobs is stale: .* model model-a, and the reference of this run is model-b"
    ):
        ColumnStore(folder, "rows-a", {"reference": "model-b"})
    with pytest.raises(DataError, match=r"was written for the rows rows-a, and these are rows-b"):
        ColumnStore(folder, "rows-b", {"reference": "model-a"})


def test_rows_that_are_others_now_are_refused(tmp_path: Path) -> None:
    store = ColumnStore(kept(tmp_path), "rows-a", {})
    with pytest.raises(DataError, match=r"ref_logprobs: row 1 was left out when it was written: another tokenizer"):
        store.attach(1, samples(1))
    other = samples(2)
    other[1] = other[1].with_columns(token_ids=[7] * len(other[1].token_ids))
    with pytest.raises(DataError, match=r"ref_logprobs: row 2 has other tokens than when it was written"):
        store.attach(2, other)


def test_a_folder_without_columns_says_how_to_write_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no stored columns; write them with `llmrl data columns`"):
        stored(tmp_path)
    folder = kept(tmp_path / "columns")
    (folder / "ref_logprobs.f32").unlink()
    with pytest.raises(DataError, match=r"ref_logprobs.json: no stored column"):
        ColumnStore(folder, "rows-a", {})


def test_a_kill_while_writing_leaves_the_old_column(tmp_path: Path) -> None:
    folder = kept(tmp_path)

    def killed() -> object:
        yield 0, samples(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(folder, [CARD], killed())  # type: ignore[arg-type]
    assert json.loads((folder / "ref_logprobs.json").read_text())["fingerprint"] == "model-a"
    assert ColumnStore(folder, "rows-a", {}).attach(5, samples(5, filled=False))
