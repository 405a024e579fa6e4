"""Samples of stored answers: nothing is generated, and no engine starts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from llmrl.datafiles.order import Index, Key, Order, Stream, Unit, Windows, together
from llmrl.datafiles.rows import Row, file_rows, hub_rows
from llmrl.errors import DataError
from llmrl.offline.encode import AnswerEncoder
from llmrl.offline.formats import ROLLOUTS, TREE, format_of, reader
from llmrl.offline.source import BadRows, OfflineSource, Read, rows_id
from llmrl.offline.stored_columns import ColumnStore, stored
from llmrl.offline.trees import tree_samples
from llmrl.rollout.context import SourceContext
from llmrl.run_folder.records import ROLLOUTS as ROLLOUTS_FILE
from llmrl.samples import Sample


@dataclass(frozen=True)
class Offline:
    """Rows of a file, of another run's folder, or of a hub dataset: `rollout.prompts_per_step` of them a step."""

    plays: ClassVar[bool] = False
    path: str | None = None  # .jsonl, .json or .parquet, or the folder of a run
    dataset_name: str | None = None  # or a name on the hub
    dataset_config: str | None = None
    split: str = "train"  # of the hub dataset
    format: str = "auto"  # auto: by the columns of the first row
    shuffle: Literal["window", "index", "none"] = "window"
    shuffle_window: int = 4096  # rows in memory at a time
    max_bad_rows: int = 0  # broken rows that are left out before the run stops
    columns: str | None = None  # a folder that `llmrl data columns` wrote: these are not computed again

    def __post_init__(self) -> None:
        if (self.path is None) == (self.dataset_name is None):
            raise ValueError("expected either path (a file or a run's folder) or dataset_name (on the hub)")
        if self.shuffle_window < 1 or self.max_bad_rows < 0:
            raise ValueError("shuffle_window must be at least 1, max_bad_rows at least 0")
        if self.shuffle == "index" and self.path is None:
            raise ValueError("shuffle index reads a .jsonl file by places in it; expected path, or shuffle: window")

    def start(self, context: SourceContext) -> OfflineSource:
        """The source, at its first row.

        Raises:
            DataError: the rows cannot be read, or have no known format.
        """
        bad = BadRows(self.max_bad_rows)
        rows = self._rows(bad)
        first = next(rows(), None)
        if first is None:
            raise DataError(f"{self.path or self.dataset_name}: no rows; expected at least one")
        name = format_of(first) if self.format == "auto" else self.format
        stream = Stream(self._order(rows, name, context), str(self.path or self.dataset_name))
        read, facts = self.reading(name, rows, context)
        data, columns = {**self._data(name, context.seed), **facts}, None
        if self.columns is not None:
            columns = ColumnStore(Path(self.columns), rows_id(data), context.fingerprints)
        per_step = context.options.prompts_per_step
        return OfflineSource(stream, read, bad, rows_per_step=per_step, data=data, columns=columns)

    def reading(
        self, format: str, rows: Callable[[], Iterator[Row]], context: SourceContext
    ) -> tuple[Read, Mapping[str, Any]]:
        """The function that makes samples of a unit of rows, and facts about the rows for the manifest."""
        return _read(format, context), {}

    def units(self) -> Iterator[Unit]:
        """The rows in the order of the file, those of a group of episodes together."""
        rows = self._rows(BadRows(self.max_bad_rows))
        first = next(rows(), None)
        named = self.format if self.format != "auto" or first is None else format_of(first)
        return together(rows(), KEYS.get(named))

    def fills(self) -> frozenset[str]:
        """Columns that are stored beside the rows."""
        return frozenset() if self.columns is None else stored(Path(self.columns))

    @property
    def file(self) -> Path | None:
        """The file of rows; None for a hub dataset."""
        if self.path is None:
            return None
        path = Path(self.path)
        return path / ROLLOUTS_FILE if path.is_dir() else path

    def _rows(self, bad: BadRows) -> Callable[[], Iterator[Row]]:
        """Begins to read the rows, from the first on."""
        if self.file is not None:
            path = self.file
            return lambda: file_rows(path, bad)
        return lambda: hub_rows(str(self.dataset_name), self.dataset_config, self.split)

    def _order(self, rows: Callable[[], Iterator[Row]], format: str, context: SourceContext) -> Order:
        key = KEYS.get(format)
        if self.shuffle == "index":
            assert self.file is not None
            return Index(self.file, context.seed, context.folder, key, rows)
        return Windows(rows, context.seed, self.shuffle_window if self.shuffle == "window" else 1, key)

    def _data(self, format: str, seed: int) -> dict[str, Any]:
        """Description of the rows, for the manifest; a checkpoint keeps their hash."""
        if self.file is None:
            named = {"dataset_name": self.dataset_name, "dataset_config": self.dataset_config, "split": self.split}
            return {**named, "format": format, "seed": seed}
        with self.file.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"path": str(self.file), "format": format, "sha256": digest, "seed": seed}


def _group(row: Row) -> object:
    """Step and group of an episode in `rollouts.jsonl`."""
    return row.values.get("step"), row.values.get("group")


def _tree(row: Row) -> object:
    """Tree of a node."""
    return row.values.get("tree_id")


KEYS: Mapping[str, Key] = {ROLLOUTS: _group, TREE: _tree}
"""Names of the groups of formats whose rows stand together."""


def _read(format: str, context: SourceContext) -> Read:
    """The function that makes samples of a unit of a format."""
    encoder = AnswerEncoder(context.chat, context.options)
    if format == ROLLOUTS:
        return encoder.episodes
    if format == TREE:
        return partial(tree_samples, encoder)
    examples = reader(format)

    def read(unit: Unit, group: str) -> list[Sample]:
        return encoder.samples([example for row in unit for example in examples(row)], group)

    return read


plugin = Offline
