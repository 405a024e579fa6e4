"""Folders of trained critics: a Hugging Face trunk, with the heads and their specs beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from llmrl.errors import CheckpointError

WEIGHTS, SPECS = "heads.safetensors", "heads.json"
"""Files of the heads."""
Specs = Mapping[str, Mapping[str, Any]]
"""Heads by name, each as `critic.head` of a recipe."""


def write_heads(folder: Path, specs: Specs, weights: Mapping[str, Tensor]) -> None:
    """Write the heads beside their trunk."""
    from safetensors.torch import save_file

    save_file(dict(weights), folder / WEIGHTS)
    (folder / SPECS).write_text(json.dumps(specs, indent=1) + "\n", encoding="utf-8")


def head_specs(folder: Path) -> Specs:
    """Specs of the heads in a folder; none where it holds no critic.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / SPECS
    if not path.is_file():
        return {}
    try:
        specs: Specs = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}; expected the specs of a critic's heads") from None
    return specs


def take_heads(heads: nn.ModuleDict, specs: Specs, folder: Path) -> None:
    """Take the weights of heads that lie in a folder; those that do not stay as they are.

    Raises:
        CheckpointError: a head of that name has another shape.
    """
    known = head_specs(folder)
    if not known:
        return
    from safetensors.torch import load_file

    stored, own = load_file(folder / WEIGHTS), heads.state_dict()
    for name in sorted(heads.keys() & known.keys()):
        wanted = {key: tuple(own[key].shape) for key in own if key.startswith(f"{name}.")}
        there = {key: tuple(stored[key].shape) for key in stored if key.startswith(f"{name}.")}
        if wanted != there:
            raise CheckpointError(
                f"{folder}: its head {name} was {known[name]}, and this run asks for {specs[name]}; expected the same "
                "head, or critic.model without heads"
            )
        own |= {key: stored[key] for key in there}
    heads.load_state_dict(own)
