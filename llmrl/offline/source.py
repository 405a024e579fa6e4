"""A source of stored answers: it reads, and plays nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from llmrl.datafiles.order import Stream, Unit
from llmrl.datafiles.rows import LeftOutError
from llmrl.errors import DataError
from llmrl.offline.stored_columns import ColumnStore
from llmrl.samples import Sample
from llmrl.types import Trajectory

Read = Callable[[Unit, str], list[Sample]]
"""Samples of a unit of rows, which are a group of that name."""


class BadRows:
    """Broken rows so far, each counted once however often it is read; stops at more than `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.places: set[str] = set()

    def __call__(self, error: DataError) -> None:
        """Count a row by its error, or raise it.

        Raises:
            DataError: there are more than allowed.
        """
        self.places.add(str(error).partition(": ")[0])
        if len(self.places) > self._most:
            raise DataError(
                f"{error}. Broken rows so far: {len(self.places)}, and source.max_bad_rows is {self._most}: mend "
                "them, or raise it to leave them out"
            ) from None


def rows_id(data: Mapping[str, Any]) -> str:
    """Hash of the rows that `Source.data` describes, or the name of their dataset."""
    return str(data.get("sha256") or data["dataset_name"])


class OfflineSource:
    """Gives `rows_per_step` rows' samples a step, epoch after epoch; all ranks read the same rows.

    Groups are called `<epoch>/<row>`, by the number of their first row in the data, from 0.
    """

    played: Sequence[Sequence[Trajectory]] = ()

    def __init__(
        self,
        stream: Stream,
        read: Read,
        bad: BadRows,
        *,
        rows_per_step: int,
        data: Mapping[str, Any],
        columns: ColumnStore | None = None,
    ) -> None:
        self._stream, self._read, self._bad, self._columns = stream, read, bad, columns
        self._rows_per_step = rows_per_step
        self.data = data
        self.left_out: Counter[str] = Counter()  # rows of the first epoch, by reason
        self.metrics: Mapping[str, float] = {}

    def next(self, step: int) -> list[Sample]:
        """Return the samples of the next rows; rows of no use are passed over.

        Raises:
            DataError: too many rows are broken, or none of an epoch is of use.
        """
        taken: list[list[Sample]] = []
        passed = 0  # epochs that ended without a row of use
        while len(taken) < self._rows_per_step:
            epoch, unit = self._stream.next()
            if self._stream.position == 1:
                passed = passed + 1 if not taken else 0
                if passed > 1:
                    raise DataError(f"{unit[0].where.rpartition(':')[0]}: no row of use; {self._counts()}")
            samples = self._samples(epoch, unit)
            if samples:
                taken.append(samples)
        samples = [sample for of_row in taken for sample in of_row]
        self.metrics = self._described(samples)
        return samples

    def epoch(self) -> Iterator[tuple[int, list[Sample]]]:
        """The rows of the epoch that the source stands in, to its end: number of each and its samples."""
        began = self._stream.epoch
        while True:
            epoch, unit = self._stream.next()
            if epoch != began:
                return
            if samples := self._samples(epoch, unit):
                yield unit[0].index, samples

    def timings(self) -> Mapping[str, float]:
        return {}

    def state(self) -> Mapping[str, Any]:
        return {
            **self._stream.state(),
            "left_out": dict(self.left_out),
            "bad": sorted(self._bad.places),
            **self._identity(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on behind the last row that was learned from.

        Raises:
            DataError: the rows are others than those of the checkpoint.
        """
        changed = {name: was for name, was in self._identity().items() if state[name] != was}
        if changed:
            name, now = next(iter(changed.items()))
            raise DataError(
                f"{self.data.get('path')}: the {name} of the rows was {state[name]} in the checkpoint, and is now "
                f"{now}; bring the rows back, or choose another train.run_name to start anew"
            )
        self._stream.restore(state)
        self.left_out, self._bad.places = Counter(state["left_out"]), set(state["bad"])

    def mark(self) -> None:
        """Remember where it stands, for `rewind`."""
        self._marked = self.state()

    def rewind(self) -> None:
        """Go back to where it was marked: the step since then is dropped."""
        self.restore(self._marked)

    def close(self) -> None:
        """Nothing runs."""

    def _samples(self, epoch: int, unit: Unit) -> list[Sample]:
        """Samples of a unit; none of one that is broken or of no use."""
        try:
            samples = self._read(unit, f"{epoch}/{unit[0].index}")
        except LeftOutError as reason:
            if epoch == 0:
                self.left_out[str(reason)] += 1
        except DataError as error:
            placed = any(str(error).startswith(row.where) for row in unit)
            self._bad(error if placed else DataError(f"{unit[0].where}: {error}"))
        else:
            return samples if self._columns is None else self._columns.attach(unit[0].index, samples)
        return []

    def _described(self, samples: Sequence[Sample]) -> dict[str, float]:
        lengths = [sample.actions for sample in samples]
        rewards = [sample.reward for sample in samples if sample.reward == sample.reward]
        metrics = {
            "num_tokens": float(sum(len(sample.token_ids) for sample in samples)),
            "completions/mean_length": fmean(lengths),
            "offline/epoch": float(self._stream.epoch),
            "offline/rows": float(self._stream.position),
            "offline/left_out": float(sum(self.left_out.values())),
            "offline/bad_rows": float(len(self._bad.places)),
        }
        return metrics | ({"reward": fmean(rewards)} if rewards else {})

    def _identity(self) -> dict[str, Any]:
        return {name: self.data[name] for name in ("sha256", "seed") if name in self.data}

    def _counts(self) -> str:
        left = ", ".join(f"{reason}: {count}" for reason, count in self.left_out.most_common()) or "none"
        return f"left out: {left}; broken: {len(self._bad.places)}"
