"""Weights on their way to servers: in the precision that was asked for, each name once, and gone afterwards."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from llmrl.engines.server import weight_file


def test_a_file_holds_every_weight_in_the_precision_of_the_servers(tmp_path: Path) -> None:
    weight, count = torch.tensor([1.0, 1 / 3]), torch.tensor([7])
    given = [("a", weight), ("tied", weight), ("part", weight[1:]), ("count", count)]
    with weight_file.write(given, 3, "bfloat16", str(tmp_path)) as path:
        assert Path(path).name == "version-3.safetensors"
        held = load_file(path)
    assert {name: (each.dtype, each.tolist()) for name, each in held.items()} == {
        name: (each.dtype, each.tolist())
        for name, each in ((n, w.bfloat16() if w.is_floating_point() else w) for n, w in given)
    }
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_in_its_own_precision_is_not_the_trainer_s_memory(tmp_path: Path) -> None:
    weight = torch.tensor([1.0, 2.0])
    with weight_file.write([("a", weight), ("tied", weight)], 0, "float32", str(tmp_path)) as path:
        weight.zero_()
        assert {name: each.tolist() for name, each in load_file(path).items()} == {"a": [1.0, 2.0], "tied": [1.0, 2.0]}
