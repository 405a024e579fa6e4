"""Checksums of the files of a folder: written when it is complete, compared before it is read.

CRC-32 finds every changed byte and run of bytes, and is read at 2 GB/s a thread, five times as fast as a disk writes;
it is no protection against somebody who wants to deceive.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shlex import quote

from llmrl.errors import CheckpointError
from llmrl.run_folder.card import CARD

FILE = "checksums.json"
CHUNK = 1 << 20
THREADS = 4
Sum = tuple[int, str]
"""Bytes of a file, and their CRC-32 in eight hexadecimal digits."""


def names(folder: Path) -> list[str]:
    """The files below a folder, relative to it: the largest first, without the checksums and the card.

    A model card is for people, who may write on in it.
    """
    found = [path for path in folder.rglob("*") if not path.is_dir() and not path.name.startswith(".nfs")]
    found = sorted(found, key=lambda path: (-path.lstat().st_size, path))
    return [name for name in (path.relative_to(folder).as_posix() for path in found) if name not in (FILE, CARD)]


def flushed(folder: Path, names: Sequence[str]) -> dict[str, Sum]:
    """Put files onto the disk, out of its cache, and measure them meanwhile.

    Raises:
        OSError: one cannot be read or written.
    """
    with ThreadPoolExecutor(THREADS) as threads:
        written = [threads.submit(flush, folder / name) for name in names]
        sums = dict(zip(names, threads.map(_measure, [folder / name for name in names]), strict=True))
        for done in written:
            done.result()
    return sums


def flush(path: Path) -> None:
    """Put a file or a folder onto the disk, out of its cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(folder: Path, sums: Mapping[str, Sum]) -> None:
    """Write the checksums of a folder, and onto the disk."""
    files = dict(sorted(sums.items()))
    path = folder / FILE
    path.write_text(json.dumps({"crc32": _digest(files), "files": files}, indent=1) + "\n", encoding="utf-8")
    flush(path)
    flush(folder)


def sealed(folder: Path) -> list[str]:
    """Names of the files of a folder that `write` has sealed; empty for one without checksums.

    Raises:
        CheckpointError: the checksums are damaged.
    """
    return sorted(_read(folder)) if (folder / FILE).exists() else []


def damage(folder: Path, share: tuple[int, int] = (0, 1)) -> list[str]:
    """Describe how the files of a folder differ from what was written, a file a line; empty where none does.

    Args:
        folder: that `write` has sealed.
        share: rank and number of the processes that look together; the first also looks at what is there at all.
    """
    rank, world = share
    try:
        sums = _read(folder)
    except CheckpointError as error:
        return [] if rank else [str(error)]
    extra = [] if rank else [name for name in names(folder) if name not in sums]
    largest_first = sorted(sums, key=lambda name: (-sums[name][0], name))
    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(lambda name: _difference(folder, name, sums), largest_first[rank::world]))
    return [text for text in found if text] + [f"{name}: was not written by the run; remove it" for name in extra]


def require_intact(folder: str | Path) -> None:
    """Check a model's folder that a run has exported; those of others, and hub names, have no checksums and pass.

    Files that were added are no damage.

    Raises:
        CheckpointError: a file is not as it was written; names it.
    """
    folder = Path(folder)
    if not (folder / FILE).exists():
        return
    sums = _read(folder)
    with ThreadPoolExecutor(THREADS) as threads:
        found = [text for text in threads.map(lambda name: _difference(folder, name, sums), sums) if text]
    if found:
        raise CheckpointError(
            f"{folder}: damaged: {'; '.join(found[:3])}{_more(found)}. Copy the folder again, or have its run write it "
            f"again: the command that trained it, with --resume. If you changed it on purpose: "
            f"rm {quote(str(folder / FILE))}"
        )


def _more(found: Sequence[str]) -> str:
    return f"; and {len(found) - 3} more" if len(found) > 3 else ""


def _read(folder: Path) -> dict[str, Sum]:
    """The checksums of a folder.

    Raises:
        CheckpointError: there are none, or they are damaged themselves.
    """
    path = folder / FILE
    if not folder.is_dir():
        raise CheckpointError("it is no folder")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sums = {name: (int(size), str(digest)) for name, (size, digest) in content["files"].items()}
        right = content["crc32"] == _digest(sums)
    except FileNotFoundError:
        raise CheckpointError(f"{FILE}: missing") from None
    except OSError as error:
        raise CheckpointError(f"{FILE}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        right = False
    if not right:
        raise CheckpointError(f"{FILE}: is not as it was written, so that nothing else can be compared")
    return sums


def _difference(folder: Path, name: str, sums: Mapping[str, Sum]) -> str:
    """Describe how a file differs from what was written; nothing where it does not."""
    path, (size, digest) = folder / name, sums[name]
    try:
        if path.is_dir():
            return f"{name}: a folder stands in its place"
        found = path.stat().st_size
        if found != size:
            return f"{name}: has {found:,} bytes, {size:,} were written"
        current = _measure(path)
    except FileNotFoundError:
        return f"{name}: missing"
    except OSError as error:
        return f"{name}: cannot be read: {error.strerror}"
    if current == (size, digest):
        return ""
    others = [other for other, wanted in sums.items() if wanted == current]
    return (
        f"{name}: holds the bytes of {others[0]}" if others else f"{name}: its bytes have changed since it was written"
    )


def _measure(path: Path) -> Sum:
    size = crc = 0
    for chunk in _chunks(path):
        size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return size, f"{crc:08x}"


def _chunks(path: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(CHUNK))
    with path.open("rb", buffering=0) as file:
        while length := file.readinto(buffer):
            yield buffer[:length]


def _digest(sums: Mapping[str, Sum]) -> str:
    """CRC-32 of the checksums themselves."""
    plain = sorted((name, *each) for name, each in sums.items())
    return f"{zlib.crc32(json.dumps(plain).encode()):08x}"
