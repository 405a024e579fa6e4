"""Numbers that the heads of a trained critic give to the ends of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llmrl.critics.folder import head_specs, take_heads
from llmrl.critics.language_model import pretrained
from llmrl.critics.layers import StateLayer, head_of, layer
from llmrl.errors import CheckpointError


def start_values(folder: str, prompts: Sequence[Sequence[int]], device: str | None = None) -> list[dict[str, float]]:
    """Numbers of the state behind each prompt, by head, in float32.

    Raises:
        CheckpointError: no critic with heads of states lies in the folder.
    """
    from transformers import AutoModel

    specs = {name: spec for name, spec in head_specs(Path(folder)).items() if spec.get("name") != "vocabulary"}
    if not specs:
        raise CheckpointError(f"{folder}: no heads of states; expected final/critic of a run with webrl or ppo")
    try:
        trunk: Any = pretrained(AutoModel, folder, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} did not load: {error}; expected final/critic of a run") from error
    heads = {name: head_of(spec) for name, spec in specs.items()}
    layers = nn.ModuleDict({name: layer(head, trunk, zero_init=True) for name, head in heads.items()})
    take_heads(layers, specs, Path(folder))
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    trunk.to(place).eval()
    layers.to(place).eval()
    return [_values(trunk, layers, heads, prompt) for prompt in prompts]


def _values(trunk: Any, layers: nn.ModuleDict, heads: Mapping[str, Any], prompt: Sequence[int]) -> dict[str, float]:
    with torch.inference_mode():
        states = trunk(input_ids=torch.tensor([list(prompt)], device=trunk.device)).last_hidden_state[:, -1:]
        found = {}
        for name, own in layers.items():
            if not isinstance(own, StateLayer):
                raise CheckpointError(f"head {name}: it is of prompts, not of states; expected heads such as bernoulli")
            found[name] = float(heads[name].head.values(own(states, None)[1])[0, 0])  # type: ignore[arg-type]
    return found
