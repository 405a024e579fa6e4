"""Heads of a critic in a folder: taken by name, and refused where they are damaged."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from llmrl.critics.folder import SPECS, WEIGHTS, head_specs, take_heads, write_heads
from llmrl.errors import CheckpointError

SCALAR = {"v": {"name": "scalar"}}


def heads(*names: str, width: int = 3) -> nn.ModuleDict:
    return nn.ModuleDict({name: nn.Linear(width, 1, bias=False) for name in names})


def weight(of: nn.ModuleDict, name: str) -> torch.Tensor:
    return of[name].get_parameter("weight").detach()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    stored = heads("v")
    nn.init.constant_(weight(stored, "v"), 0.5)
    write_heads(tmp_path, SCALAR, stored.state_dict())
    return tmp_path


def test_heads_are_taken_by_name_and_new_ones_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = heads("v", "q1")
    before = weight(own, "q1").clone()
    with caplog.at_level(logging.WARNING):
        take_heads(own, SCALAR | {"q1": {"name": "scalar"}}, folder)
    assert weight(own, "v").tolist() == [[0.5, 0.5, 0.5]]
    assert torch.equal(weight(own, "q1"), before)
    assert f"{folder} has heads v, and not q1, which begin anew" in caplog.text


def test_all_heads_there_need_no_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    take_heads(heads("v"), SCALAR, folder)
    assert not caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [("[1]", r"found \[1\]"), ('{"v": 3}', "found {'v': 3}"), ("{", "not JSON"), ("[" * 99999, "nested deeper")],
    ids=["list", "number", "broken", "deep"],
)
def test_damaged_specs_are_refused(folder: Path, text: str, words: str) -> None:
    (folder / SPECS).write_text(text)
    with pytest.raises(CheckpointError, match=words):
        head_specs(folder)


def test_damaged_or_missing_weights_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=f"{WEIGHTS}: cannot be read"):
        take_heads(heads("v"), SCALAR, folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=f"{WEIGHTS}: cannot be read"):
        take_heads(heads("v"), SCALAR, folder)


def test_another_shape_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="its head v was"):
        take_heads(heads("v", width=4), SCALAR, folder)


def test_another_head_of_the_same_shape_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="its head v was"):
        take_heads(heads("v"), {"v": {"name": "bernoulli"}}, folder)
    take_heads(heads("v"), {"v": {"name": "scalar", "width": 0}}, folder)
