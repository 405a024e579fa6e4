"""Names of the hub and paths, and a hub that cannot be reached."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmrl.clients import hub
from llmrl.errors import CheckpointError


def test_names_of_the_hub_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    for name in ("gpt2", "Qwen/Qwen2.5-0.5B-Instruct", "owner/a.b_c-1", "model", str(tmp_path)):
        hub.require_present(name, "model.policy")


def test_a_folder_of_the_first_word_says_that_a_folder_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"runs/dmo: no such folder here; runs holds demo\..*model_revision=main"):
        hub.require_present("runs/dmo", "model.policy")
    hub.require_present("runs/dmo", "model.policy", "main")


def test_a_hub_that_cannot_be_reached_is_asked_once(tmp_path: Path) -> None:
    """Both libraries, as they are, answer at once where the first question found nobody."""
    code = """
from llmrl.chat import load_tokenizer
from llmrl.datafiles.rows import hub_rows
for read in (lambda: load_tokenizer("owner/model"), lambda: hub_rows("owner/rows", None, "train")):
    try:
        read()
    except Exception as error:
        print(type(error).__name__, error)
"""
    environment = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "HF_HOME")}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    assert "Retrying" not in ended.stderr
    assert ended.stderr.count("http://127.0.0.1:9 cannot be reached") == 1
    first, second = ended.stdout.splitlines()
    assert first.startswith("CheckpointError owner/model: no tokenizer could be loaded")
    assert second.startswith("DataError owner/rows could not be loaded")
