"""Numbers of every token that could follow a text, by a trained critic: what moves the logits of a policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from llmrl.critics.folder import head_specs, take_heads
from llmrl.critics.language_model import pretrained
from llmrl.critics.layers import VocabularyLayer, head_of, layer
from llmrl.errors import EngineError


class ActionValues(nn.Module):
    """A trunk under heads of the vocabulary, with the face of a causal language model: its logits are the least Q."""

    def __init__(self, trunk: Any, heads: Sequence[VocabularyLayer]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList(heads)
        self.config: Any = trunk.config

    @property
    def device(self) -> torch.device:
        """Device of its weights."""
        return next(self.parameters()).device

    def forward(self, logits_to_keep: int = 0, **inputs: Any) -> SimpleNamespace:
        """Numbers (B, K, V) of the tokens that could follow each of the last K positions; 0: of all."""
        states = self.trunk(**inputs).last_hidden_state[:, -logits_to_keep:]
        numbers = [head.numbers(states) for head in self.heads if isinstance(head, VocabularyLayer)]
        return SimpleNamespace(logits=torch.stack(numbers).amin(0))


def load(folder: str, dtype: str, device: str | torch.device) -> ActionValues:
    """Load a critic from the folder that a run left in `final/`.

    Raises:
        EngineError: no critic lies there, or none with heads of the vocabulary.
    """
    from transformers import AutoModel
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # under ZeRO-3 Transformers would shard this model too, which works by itself
    specs = {name: spec for name, spec in head_specs(Path(folder)).items() if spec.get("name") == "vocabulary"}
    if not specs:
        raise EngineError(
            f"engine.critic: {folder} has no heads of the vocabulary; expected final/critic of a run with ilql"
        )
    try:
        trunk = pretrained(AutoModel, folder, dtype=getattr(torch, dtype))
    except (OSError, ValueError) as error:
        raise EngineError(f"engine.critic: {folder} did not load: {error}") from error
    layers = {}
    for name, spec in specs.items():
        layers[name] = layer(head_of(spec), trunk, zero_init=True)
    take_heads(nn.ModuleDict(layers), specs, Path(folder))
    heads = [head for head in layers.values() if isinstance(head, VocabularyLayer)]
    return ActionValues(trunk, heads).to(device).eval().requires_grad_(False)
