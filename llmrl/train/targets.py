"""Polyak copies of a model of numbers, or of its heads alone: targets that move slowly."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from llmrl.critics.layers import Tokens
from llmrl.protocols import ModelSpec
from llmrl.train.moving_copy import MovingCopy
from llmrl.train.network import ValueNetwork


def copy_of(net: ValueNetwork, spec: ModelSpec, trunk: Callable[[], Any]) -> nn.Module | None:
    """A copy of the heads, or of the whole network; None where the spec asks for none.

    Args:
        trunk: loads the trunk again: under ZeRO-3 one that was loaded cannot be copied.
    """
    if spec.target_tau is None or not spec.trains:
        return None
    heads = copy.deepcopy(net.heads)
    return heads if spec.target == "heads" else ValueNetwork(trunk(), dict(heads.items()), net.specs)


class Targets:
    """The copy, which takes a share of its model after every optimiser step.

    Copies of heads are whole on every rank, and read the states of the trunk as it is; a copy of the model is sharded
    like it, and reads the tokens.
    """

    def __init__(self, copied: nn.Module, spec: ModelSpec, accelerator: Any) -> None:
        assert spec.target_tau is not None
        self._tau = spec.target_tau
        self.of_heads = spec.target == "heads"
        self.copy = MovingCopy(copied, accelerator, whole=self.of_heads)

    def __call__(self, states: Tensor | None, tokens: Tokens) -> dict[str, tuple[Tensor, ...]]:
        """Outputs of each head's copy by name, constants; `states` of the trunk for copies of heads."""
        with torch.no_grad(), torch.autocast(tokens.ids.device.type, enabled=False):
            if states is None:
                outputs: dict[str, tuple[Tensor, ...]] = self.copy.module(tokens, False)
                return outputs
            return {name: head(states.float(), tokens) for name, head in self.copy.module.items()}

    def follow(self, net: ValueNetwork) -> None:
        """Move towards the model. Collective where it is sharded."""
        self.copy.follow(net.heads if self.of_heads else net, self._tau)
