"""Folders of trained critics: a Hugging Face trunk, with the heads and their specs beside it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from llmrl.datafiles import json_text
from llmrl.errors import CheckpointError, DataError

log = logging.getLogger(__name__)

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
        specs = json_text.parse(path.read_bytes(), str(path))
    except (OSError, DataError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}; expected the specs of a critic's heads") from None
    if not isinstance(specs, dict) or not all(isinstance(spec, dict) for spec in specs.values()):
        raise CheckpointError(f"{path}: found {specs!r:.60}; expected the specs of a critic's heads, by name")
    return specs


def take_heads(heads: nn.ModuleDict, specs: Specs, folder: Path) -> None:
    """Take the weights of heads that lie in a folder; those that do not stay as they are, which a warning says.

    Raises:
        CheckpointError: a head of that name is another or has another shape, or the weights cannot be read.
    """
    known = head_specs(folder)
    if not known:
        return
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored, own = load_file(folder / WEIGHTS), heads.state_dict()
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS}: cannot be read: {error}; copy the folder again") from None
    if new := sorted(heads.keys() - known.keys()):
        log.warning("%s has heads %s, and not %s, which begin anew", folder, ", ".join(sorted(known)), ", ".join(new))
    for name in sorted(heads.keys() & known.keys()):
        wanted = {key: tuple(own[key].shape) for key in own if key.startswith(f"{name}.")}
        there = {key: tuple(stored[key].shape) for key in stored if key.startswith(f"{name}.")}
        if specs[name].get("residual") and not known[name].get("residual"):  # which begins anew, beside that head
            wanted = {key: shape for key, shape in wanted.items() if not key.startswith(f"{name}.residual.")}
        if wanted != there or _meaning(known[name]) != _meaning(specs[name]):
            raise CheckpointError(
                f"{folder}: its head {name} was {known[name]}, and this run asks for {specs[name]}; expected the same "
                "head, or critic.model without heads"
            )
        own |= {key: stored[key] for key in there}
    heads.load_state_dict(own)


def _meaning(spec: Mapping[str, Any]) -> Any:
    """The head of a spec with its options, which are no weights; a residual beside it does not change them."""
    from llmrl.critics.layers import head_of

    return head_of(spec).head
