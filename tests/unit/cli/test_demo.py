"""The folder of the demo: one that somebody works in is not emptied."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrl.cli.demo import MARKER, run
from llmrl.errors import CheckpointError
from llmrl.run_folder import lock
from llmrl.run_folder.lock import FolderLock


@pytest.mark.parametrize("name", [MARKER, lock.FILE], ids=["another demo", "a run"])
def test_a_folder_in_use_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / MARKER).touch()
    (tmp_path / "metrics.jsonl").write_text("work")
    with FolderLock(tmp_path, "go away", name), pytest.raises(CheckpointError, match=r"in use by .* with --out"):
        run(out=tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == "work"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(CheckpointError, match=r"demo: cannot be made: .*; choose another folder with --out"):
        run(out=tmp_path / "demo")
