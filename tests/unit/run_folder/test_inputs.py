"""Inputs of a run besides its recipe: a changed one is named, and refused where steps would no longer fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import CheckpointError
from llmrl.run_folder.inputs import MANIFEST, inputs, require_same


def test_files_folders_and_modules_that_a_recipe_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, critic, code = tmp_path / "rows.jsonl", tmp_path / "critic", tmp_path / "own_reward_of_a_test.py"
    rows.write_text("{}\n")
    critic.mkdir()
    (critic / "config.json").write_text("{}")
    code.write_text("def reward(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    import own_reward_of_a_test  # type: ignore[import-not-found]  # noqa: F401

    recipe: dict[str, Any] = {
        "model": {"policy": str(tmp_path)},
        "data": {"name": "jsonl", "path": str(rows)},
        "reward": {"name": "mix", "parts": [{"name": "own_reward_of_a_test:reward"}]},
        "critic": {"model": str(critic), "head": "no path\0"},
    }
    found = inputs(recipe)
    assert found.keys() == {str(rows), str(code), str(critic)}
    rows.write_text("{ }\n")
    (critic / "config.json").write_text("{ }")
    code.write_text("def reward(): pass\n")
    assert all(inputs(recipe)[name] != was for name, was in found.items())


BEFORE: dict[str, Any] = {
    "model": {"name": "./model", "files": {"config.json": "a", "model.safetensors": "b"}},
    "data": {"problems": 3, "sha256": "c" * 64},
    "inputs": {"mine.py": "d"},
}


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"model": {"name": "./model", "files": {"config.json": "a", "model.safetensors": "x"}}}, "model.safetensors"),
        ({"model": {"name": "./model", "files": {"config.json": "a"}}}, "model.safetensors"),
        ({"data": {"problems": 3, "sha256": "x" * 64}}, r"the data \(sha256 was cccccccccccccccc\)"),
        ({"data": {"problems": 4, "sha256": "x" * 64}}, "the data .*problems was 3"),
    ],
)
def test_other_data_or_another_model_is_refused(tmp_path: Path, now: dict[str, Any], said: str) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(BEFORE))
    assert require_same(tmp_path, BEFORE) == []
    with pytest.raises(CheckpointError, match=rf"cannot go on with other inputs .*{said}.* choose another train"):
        require_same(tmp_path, BEFORE | now)


def test_changed_code_is_named(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(BEFORE))
    assert require_same(tmp_path, BEFORE | {"inputs": {"mine.py": "x", "new.py": "y"}}) == ["mine.py"]


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"])
def test_a_manifest_that_says_nothing_refuses_nothing(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / MANIFEST).write_text(content)
    assert require_same(tmp_path, BEFORE) == []
