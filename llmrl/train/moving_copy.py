"""Copies of networks that follow them slowly: a moving reference, and targets of models of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from llmrl.train.parallel import frozen, gathered_parameters, zero_stage


class MovingCopy:
    """A network that never learns, and takes a share of another of its shape now and then. A checkpoint holds it.

    It is float32 whatever the other is: in bfloat16 a small change is below half a unit in the last place and would be
    rounded away.

    Args:
        net: the copy; it becomes float32 in place.
        accelerator: processes of the run.
        whole: on every rank, also under ZeRO-3, which else has a shard on each.
    """

    def __init__(self, net: nn.Module, accelerator: Any, *, whole: bool = False) -> None:
        self._sharded = zero_stage(accelerator) == 3
        self._whole = whole
        net = net.float().requires_grad_(False)
        self.module: Any = net.eval().to(accelerator.device) if whole else frozen(net, accelerator, bf16=False)
        self.net: Any = net if whole else accelerator.unwrap_model(self.module)
        accelerator.register_for_checkpointing(self)

    def follow(self, net: nn.Module, share: float) -> None:
        """Move towards a network by a share of the distance; 1 copies it. Collective under ZeRO-3."""
        for mine, theirs in zip(self.net.parameters(), net.parameters(), strict=True):
            gathered = [theirs] if self._whole else [mine, theirs]
            with gathered_parameters(gathered, self._sharded, modified=not self._whole), torch.no_grad():
                mine.lerp_(theirs.detach().to(mine.dtype), share)

    def state_dict(self) -> dict[str, Tensor]:
        """Gather its full weights on every rank, for the checkpoint."""
        state = {}
        for name, parameter in self.net.named_parameters():
            with gathered_parameters([parameter], self._sharded and not self._whole):
                state[name] = parameter.detach().cpu().clone()
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of `state_dict`. Collective."""
        for name, parameter in self.net.named_parameters():
            with gathered_parameters([parameter], self._sharded and not self._whole, modified=True), torch.no_grad():
                parameter.copy_(state[name])
