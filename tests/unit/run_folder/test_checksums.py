"""Checksums: each kind of damage is named, and nothing else is."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from llmrl.errors import CheckpointError
from llmrl.run_folder import checksums

CONTENT = {"model.bin": b"abc" * 1000, "optim.bin": b"xyz" * 1000, "rank/zero_1.pt": b"\x00" * 17, "empty": b""}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    for name, content in CONTENT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    checksums.write(tmp_path, checksums.flushed(tmp_path, checksums.names(tmp_path)))
    return tmp_path


def test_what_is_written(sealed: Path) -> None:
    found = json.loads((sealed / checksums.FILE).read_text())["files"]
    assert found == {name: [len(c), f"{zlib.crc32(c):08x}"] for name, c in CONTENT.items()}
    assert found["empty"] == [0, "00000000"]
    assert checksums.damage(sealed) == []
    checksums.require_intact(sealed)


def flip(folder: Path) -> None:
    content = bytearray((folder / "model.bin").read_bytes())
    content[1500] ^= 1
    (folder / "model.bin").write_bytes(content)


def cut(folder: Path) -> None:
    (folder / "model.bin").write_bytes(CONTENT["model.bin"][:-1])


def remove(folder: Path) -> None:
    (folder / "model.bin").unlink()


def swap(folder: Path) -> None:
    (folder / "model.bin").rename(folder / "kept")
    (folder / "optim.bin").rename(folder / "model.bin")
    (folder / "kept").rename(folder / "optim.bin")


def directory(folder: Path) -> None:
    (folder / "model.bin").unlink()
    (folder / "model.bin").mkdir()


def broken_link(folder: Path) -> None:
    (folder / "model.bin").unlink()
    (folder / "model.bin").symlink_to("nowhere")


def extra(folder: Path) -> None:
    (folder / "custom_checkpoint_0.pkl").touch()


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (flip, ["model.bin: its bytes have changed since it was written"]),
        (cut, ["model.bin: has 2,999 bytes, 3,000 were written"]),
        (remove, ["model.bin: missing"]),
        (swap, ["model.bin: holds the bytes of optim.bin", "optim.bin: holds the bytes of model.bin"]),
        (directory, ["model.bin: a folder stands in its place"]),
        (broken_link, ["model.bin: missing"]),
        (extra, ["custom_checkpoint_0.pkl: was not written by the run; remove it"]),
    ],
)
def test_damage_is_named(sealed: Path, harm: Callable[[Path], None], named: list[str]) -> None:
    harm(sealed)
    assert checksums.damage(sealed) == named
    dealt = [checksums.damage(sealed, (rank, 3)) for rank in range(3)]
    assert sorted(text for part in dealt for text in part) == sorted(named), "processes that look together see it once"
    if harm is extra:
        checksums.require_intact(sealed)  # a model's folder may get files
        return
    with pytest.raises(CheckpointError, match=r"damaged: model.bin: .*rm .*checksums.json"):
        checksums.require_intact(sealed)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\x00\xff",
        b'{"files": {"a": 1}, "crc32": "0"}',
        b"[" * 100_000,
        b'{"files": {}, "crc32": ""}',
    ],
)
def test_checksums_that_are_damaged_themselves(sealed: Path, content: bytes) -> None:
    (sealed / checksums.FILE).write_bytes(content)
    assert checksums.damage(sealed) == [
        "checksums.json: is not as it was written, so that nothing else can be compared"
    ]
    with pytest.raises(CheckpointError, match=r"checksums.json: is not as it was written"):
        checksums.require_intact(sealed)


def test_a_changed_checksum_is_no_damage_of_the_file(sealed: Path) -> None:
    file = sealed / checksums.FILE
    file.write_text(file.read_text().replace("3000", "3001"))
    assert checksums.damage(sealed)[0].startswith("checksums.json: is not as it was written")


def test_places_without_checksums(sealed: Path) -> None:
    (sealed / checksums.FILE).unlink()
    assert checksums.damage(sealed) == ["checksums.json: missing"]
    assert checksums.damage(sealed / "model.bin") == ["it is no folder"]
    (sealed / checksums.FILE).mkdir()
    assert checksums.damage(sealed) == ["checksums.json: cannot be read: Is a directory"]
    checksums.require_intact("Qwen/Qwen2.5-0.5B-Instruct")
    checksums.require_intact(sealed / "rank")
