"""Write the files of a run: metrics, episodes, rows that could not be learned from, manifest and recipe."""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from random import Random
from shlex import quote
from types import MappingProxyType
from typing import Any

import numpy as np

from llmrl.errors import CheckpointError
from llmrl.run_folder import reader
from llmrl.run_folder.checksums import flush
from llmrl.run_folder.curves import draw_run
from llmrl.run_folder.records import METRICS, ROLLOUTS, EpisodeRecord, StepRecord, step_of
from llmrl.run_folder.token_numbers import of_turns
from llmrl.samples import Array, Sample
from llmrl.types import Score, Trajectory

NOBODY: Mapping[tuple[str, int], Score] = MappingProxyType({})
"""Scores of an audit that there is none of."""
ERRORS = "errors.log"
"""Tracebacks, of which the terminal gets the message alone."""
MB = 1_000_000
log = logging.getLogger(__name__)


class Logs:
    """The files of a run folder; only the main process writes.

    Args:
        folder: made where it is missing.
        writes: whether this process does.
        share: of the episodes that are logged, chosen by their names: the same in every run of the recipe.
        tokens_mb: size of `rollouts.jsonl`, in megabytes, from which on episodes are logged without their tokens.
    Raises:
        CheckpointError: the folder cannot be made.
    """

    def __init__(self, folder: Path, writes: bool, share: float, tokens_mb: float = inf) -> None:
        self.folder = folder
        self._writes = writes
        self._share = share
        self._tokens_mb = tokens_mb
        self._full = tokens_mb <= 0  # nobody need be told
        if writes:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CheckpointError(
                    f"{folder}: cannot be made: {error.strerror}; choose another train.output_dir"
                ) from error

    def write(self, name: str, content: Any) -> None:
        """Write a JSON file, whole or not at all."""
        if self._writes:
            _replace(self.folder / name, json.dumps(content, indent=2, default=str) + "\n")

    def text(self, name: str, content: str) -> None:
        """Write a text file, whole or not at all."""
        if self._writes:
            _replace(self.folder / name, content)

    def error(self, rank: int, error: BaseException) -> None:
        """Add the traceback of an error to errors.log, from any process."""
        lines = traceback.format_exception(error)
        with suppress(OSError), (self.folder / ERRORS).open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} process {rank}\n{''.join(lines)}\n")

    def forget_from(self, step: int) -> None:
        """Drop the lines of `step` and later, and one that a kill cut off: a resumed run writes them again.

        Raises:
            CheckpointError: a line before them is damaged.
        """
        for name in (METRICS, ROLLOUTS):
            path = self.folder / name
            if self._writes and path.exists():
                os.truncate(path, _length_before(path, step))

    def flush(self) -> None:
        """Put both logs onto the disk, out of its cache.

        Raises:
            CheckpointError: the disk refuses.
        """
        for path in (self.folder / METRICS, self.folder / ROLLOUTS) if self._writes else ():
            try:
                flush(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _no_room(path, error) from error

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a line to metrics.jsonl."""
        record = StepRecord(step=step, metrics=metrics)
        self._append(METRICS, [_line(record.to_json())])

    def rollouts(
        self,
        step: int,
        groups: Sequence[Sequence[Trajectory]],
        samples: Sequence[Sample],
        audited: Mapping[tuple[str, int], Score] = NOBODY,
    ) -> None:
        """Add a share of the step's episodes to rollouts.jsonl, with their credit and the scores of an audit."""
        by_episode: dict[tuple[str, int], list[Sample]] = {}
        for row in samples:
            by_episode.setdefault((row.played_in, row.episode), []).append(row)
        records = (
            _record(step, episode, by_episode.get((episode.group, episode.episode), ()), audited)
            for group in groups
            for episode in group
            if self._wanted(episode)
        )
        path = self.folder / ROLLOUTS
        size = path.stat().st_size if self._writes and path.exists() else 0
        self._append(ROLLOUTS, self._bounded(records, size))

    def rows(self, name: str, samples: Sequence[Sample]) -> Path:
        """Write rows that could not be learned from, to look at."""
        path = self.folder / name
        if self._writes:
            _replace(path, "".join(json.dumps(row.as_dict()) + "\n" for row in samples))
        return path

    def curves(self) -> None:
        """Draw curves.png, from metrics.jsonl."""
        if self._writes and (self.folder / METRICS).exists():
            draw_run(list(reader.steps(self.folder)), self.folder / "curves.png")

    def _wanted(self, episode: Trajectory) -> bool:
        return self._share >= 1.0 or Random(f"{episode.group}/{episode.episode}").random() < self._share

    def _bounded(self, records: Iterable[EpisodeRecord], size: int) -> Iterator[bytes]:
        """Lines for a file of so many bytes: with tokens while it is smaller than the bound."""
        for record in records:
            with_tokens = size < self._tokens_mb * MB
            if not with_tokens and not self._full:
                self._full = True
                log.warning(
                    f"{self.folder / ROLLOUTS}: {size / MB:.0f} MB, which is rollout.log_tokens_mb: from step "
                    f"{record.step} on episodes are logged without token ids and log-probabilities. For more of them "
                    "raise it, or lower rollout.log_completions"
                )
            line = _line(record.to_json(with_tokens=with_tokens))
            size += len(line)
            yield line

    def _append(self, name: str, lines: Iterable[bytes]) -> None:
        if not self._writes:
            return
        path = self.folder / name
        try:
            with path.open("ab") as file:
                file.writelines(lines)
        except OSError as error:
            raise _no_room(path, error) from error


def _record(
    step: int, episode: Trajectory, rows: Sequence[Sample], audited: Mapping[tuple[str, int], Score]
) -> EpisodeRecord:
    """The record of an episode, with what its own samples hold."""
    largest = [_largest(row.get("advantages", np.zeros(0))) for row in rows]
    own = [row for row in rows if row.origin == "fresh"]
    return EpisodeRecord(
        step=step,
        trajectory=episode,
        tokens=sum(len(turn.completion.token_ids) for turn in episode.turns),
        advantage=max([0.0, *largest], key=abs),
        audit=audited.get((episode.group, episode.episode)),
        token_numbers=of_turns(episode, own),
    )


def _no_room(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path}: cannot be written: {error.strerror}; make room, then start again with --resume")


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _length_before(path: Path, step: int) -> int:
    """Bytes of the whole lines of the steps before `step`, which stand first.

    Raises:
        CheckpointError: a line among them is none that a run writes. A last line without an end was cut off by a kill.
    """
    length = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                found = step_of(line)
                if not line.endswith(b"\n") or (found is not None and found >= step):
                    break
                if found is None or not line.endswith(b"}\n") or not line.isascii() or b"\0" in line:
                    raise CheckpointError(
                        f"{path}:{number}: damaged: {line[:40]!r} begins no line that a run writes, or its bytes have "
                        f"changed. To go on without the line: sed -i {number}d {quote(str(path))}"
                    )
                length += len(line)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}; move it away to go on without it") from error
    return length


def _largest(numbers: Array) -> float:
    """The number farthest from 0, with its sign; 0.0 of none."""
    return float(numbers[np.abs(numbers).argmax()]) if len(numbers) else 0.0


def _replace(path: Path, content: str) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(content, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written: {error.strerror}; choose another train.output_dir"
        ) from error
