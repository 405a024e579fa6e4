"""Polyak copies of a model's heads: targets that move slowly."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from llmrl.critics.layers import Tokens
from llmrl.train.parallel import gathered_parameters


class TargetHeads:
    """Copies of all heads, which take a share of them after every optimiser step. A checkpoint holds them.

    They are whole on every rank, outside of what DDP and DeepSpeed wrap, and float32 whatever the heads are: in
    bfloat16 a small share would be rounded away.
    """

    def __init__(self, heads: nn.ModuleDict, tau: float, accelerator: Any) -> None:
        self._tau = tau
        self.heads: Any = copy.deepcopy(heads).float().requires_grad_(False).to(accelerator.device)
        accelerator.register_for_checkpointing(self)

    def __call__(self, states: Tensor, tokens: Tokens) -> dict[str, tuple[Tensor, ...]]:
        """Outputs of each copy by name, constants."""
        with torch.no_grad(), torch.autocast(states.device.type, enabled=False):
            return {name: head(states.float(), tokens) for name, head in self.heads.items()}

    def follow(self, heads: nn.Module, sharded: bool) -> None:
        """Move towards the heads by the share. Collective where they are sharded."""
        for mine, theirs in zip(self.heads.parameters(), heads.parameters(), strict=True):
            with gathered_parameters([theirs], sharded), torch.no_grad():
                mine.lerp_(theirs.detach().float(), self._tau)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights of the copies, for the checkpoint."""
        state: dict[str, Tensor] = self.heads.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of `state_dict`."""
        self.heads.load_state_dict(state)
