"""Samples on disk: a file of arrays, with their facts in its header. It is complete, or it is not there."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from llmrl.errors import CheckpointError
from llmrl.run_folder.checksums import flush
from llmrl.samples import Array, Sample

FACTS = [entry.name for entry in fields(Sample) if entry.name not in ("columns", "dtype", "support_ids")]
SUPPORT = "support_ids"


def write(path: Path, samples: Sequence[Sample]) -> str:
    """Write samples, and put them onto the disk; return the CRC-32 of the file.

    Raises:
        CheckpointError: the disk is full or not writable.
    """
    parts: dict[str, list[Array]] = {}
    facts = []
    for sample in samples:
        arrays = {name: sample.get(name) for name in sample.columns}
        arrays |= {} if sample.support_ids is None else {SUPPORT: sample.support_ids}
        for name, array in arrays.items():
            parts.setdefault(name, []).append(array)
        lengths = {name: len(array) for name, array in arrays.items()}
        facts.append([{name: _plain(getattr(sample, name)) for name in FACTS}, lengths, np.dtype(sample.dtype).name])
    data = save({name: np.concatenate(arrays) for name, arrays in parts.items()}, {"samples": json.dumps(facts)})
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        flush(partial)
        os.replace(partial, path)
        flush(path.parent)
    except OSError as error:
        raise CheckpointError(f"{path}: the replay buffer was not written: {error}; make room and resume") from error
    return crc(data)


def read(path: Path, checksum: str) -> list[Sample]:
    """Read the samples that were written.

    Raises:
        CheckpointError: the file is missing, or is not the one with this checksum.
    """
    advice = "--resume-from takes an older checkpoint, whose files may be whole"
    try:
        found = crc(path.read_bytes())
        if found != checksum:
            raise CheckpointError(f"{path}: CRC-32 {found}, and the checkpoint names {checksum}; {advice}")
        with safe_open(path, framework="np") as file:
            facts = json.loads(file.metadata()["samples"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the replay buffer's file does not open: {error}; {advice}") from error
    ends: dict[str, int] = dict.fromkeys(arrays, 0)
    samples = []
    for named, lengths, dtype in facts:
        columns = {}
        for name, length in lengths.items():
            columns[name] = arrays[name][ends[name] : ends[name] + length]
            ends[name] += length
        support_ids = columns.pop(SUPPORT, None)
        samples.append(Sample(**named, columns=columns, support_ids=support_ids, dtype=getattr(np, dtype)))
    return samples


def crc(data: bytes) -> str:
    """CRC-32 in eight hexadecimal digits."""
    return f"{zlib.crc32(data):08x}"


def _plain(value: Any) -> Any:
    """A fact as JSON has it."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
