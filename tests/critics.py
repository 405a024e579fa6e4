"""Folders of critics that tests start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from llmrl.critics.folder import write_heads
from llmrl.critics.layers import head_of, layer


def write_critic(folder: Path, trunk_dir: Path, value: Mapping[str, Any]) -> Path:
    """Write a trunk, V with the head `value` and two Q of the vocabulary at random, as in `final/critic` of a run."""
    trunk = AutoModel.from_pretrained(trunk_dir)
    specs = {"v": value} | {name: {"name": "vocabulary", "width": 1} for name in ("q1", "q2")}
    torch.manual_seed(3)
    layers = {name: layer(head_of(spec), trunk, zero_init=False) for name, spec in specs.items()}
    trunk.save_pretrained(folder)
    write_heads(folder, specs, torch.nn.ModuleDict(layers).state_dict())
    return folder
