"""A set of weights as one safetensors file, for servers that read the same folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llmrl.errors import EngineError

if TYPE_CHECKING:
    from torch import Tensor

_MEMORY = Path("/dev/shm")


@contextmanager
def write(weights: Iterable[tuple[str, Tensor]], version: int, dtype: str, folder: str | None) -> Iterator[str]:
    """Write a file with the weights in `dtype`, give its path, and remove it afterwards.

    Args:
        version: part of the file's name.
        folder: where; None is memory (/dev/shm) where that has room, else the folder for temporary files.
    Raises:
        EngineError: there is no room, or the folder cannot be written.
    """
    import torch
    from safetensors.torch import save_file

    wanted = getattr(torch, dtype)
    tensors: dict[str, Tensor] = {}
    stored: set[int] = set()
    for name, tensor in weights:
        plain = tensor.detach().to("cpu", wanted if tensor.is_floating_point() else tensor.dtype).contiguous()
        # A trainer may go on writing into its own memory, and safetensors refuses two names for one tensor.
        tensors[name] = plain.clone() if plain.data_ptr() in stored else plain
        stored.add(plain.data_ptr())
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    try:
        place = tempfile.mkdtemp(prefix="llmrl-weights-", dir=_place(size, folder))
    except OSError as error:
        raise EngineError(f"engine.sync_dir: {folder} cannot be written: {error.strerror}") from error
    try:
        path = Path(place) / f"version-{version}.safetensors"
        try:
            save_file(tensors, path)
        except OSError as error:
            raise EngineError(f"engine.sync_dir: {path} cannot be written: {error}") from error
        del tensors
        yield str(path)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _place(size: int, folder: str | None) -> str:
    """A folder with room for `size` bytes and a little more."""
    needed = size + size // 20 + 2**20
    candidates = [Path(folder)] if folder else [_MEMORY, Path(tempfile.gettempdir())]
    for candidate in candidates:
        if candidate.is_dir() and shutil.disk_usage(candidate).free >= needed:
            return str(candidate)
    raise EngineError(
        f"engine.sync_dir: no {needed / 2**30:.1f} GiB for the weights in {' or '.join(map(str, candidates))}; "
        "name a folder with room that trainer and servers both read"
    )
