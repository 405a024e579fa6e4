"""Models of numbers: the critic, or those that an algorithm asks for, under their heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmrl.batch import Batch
from llmrl.critics.folder import take_heads
from llmrl.critics.layers import Tokens, Vocabulary, head_of, layer
from llmrl.errors import RecipeError
from llmrl.ops.heads import Head
from llmrl.protocols import Forward, ModelSpec
from llmrl.recipe import Recipe, TrainOptions
from llmrl.train import network
from llmrl.train.learner import Learner
from llmrl.train.parallel import frozen
from llmrl.train.target_heads import TargetHeads


class Critic(Learner):
    """A model of numbers per token, whose meaning the algorithm defines: a value, an action's value, a reward."""

    def __init__(
        self,
        net: network.ValueNetwork,
        heads: Mapping[str, Head | Vocabulary],
        accelerator: Any,
        options: TrainOptions,
        spec: ModelSpec = ModelSpec(),  # noqa: B008 (a value)
    ) -> None:
        self.heads = heads
        tau = spec.target_tau if spec.trains else None
        self.targets = None if tau is None else TargetHeads(net.heads, tau, accelerator)
        self.trains = spec.trains
        if spec.trains:
            super().__init__(net, accelerator, options)
        else:
            self._hold(net, accelerator, options)
            self.module = frozen(net, accelerator, bf16=options.bf16)

    def forward(self, batch: Batch, chunks: int, *, entropy_grad: bool = False) -> Forward:
        """Compute the numbers of the states before and after each token, and those of the tokens."""
        tokens = Tokens(batch.token_ids, batch.position_ids, batch.action_mask, batch.sample_ids, chunks)
        outputs = self.module(tokens, self.targets is not None)
        copies: Mapping[str, Tensor] = {}
        if self.targets is not None:
            (trunk,) = outputs.pop("states")
            copies, _ = self._read(self.targets(trunk, tokens))
        own, after = self._read(outputs)
        states = [name for name in own if not isinstance(self.heads[name], Vocabulary)]
        actions = {name: (copies or own)[name].detach() for name in own if name not in states}
        first: dict[str, Any] = {}
        if states:
            head: Any = self.heads[states[0]]
            first = {"values": own[states[0]], "next_values": after[states[0]]}
            first["value_loss"] = partial(head.terms, outputs[states[0]][0])
        if actions:
            first["action_values"] = torch.stack(list(actions.values())).amin(0)
        logprobs = {name: outputs[name][1] for name in actions}
        return Forward(
            **first, heads=own, next_heads=after, head_logprobs=logprobs or None, target_heads=copies or None
        )

    def weights(self, batch: Batch) -> Tensor:
        """(B, T) weights for the critic, which are the policy's unless the algorithm sets `value_weights`."""
        return batch.value_weights

    def stepped(self) -> None:
        """Let the Polyak copies take their share of the heads."""
        if self.targets is not None:
            self.targets.follow(self.net.heads, self.sharded)

    def _read(self, outputs: Mapping[str, tuple[Tensor, ...]]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Numbers about each token by head, and those of the state after it."""
        own, after = {}, {}
        for name, head in self.heads.items():
            first, second = outputs[name]
            if isinstance(head, Vocabulary):
                own[name] = first
            else:
                own[name], after[name] = head.values(first), head.values(second)
        return own, after


def load(recipe: Recipe, accelerator: Any, spec: ModelSpec = ModelSpec()) -> Critic:  # noqa: B008 (a value)
    """Load a model of numbers: a trunk under fresh heads, or under those that an earlier run left beside it.

    Raises:
        CheckpointError: no such model, or heads of another shape.
        RecipeError: no such head, or an option that it does not have.
    """
    options, checkpointing = recipe.critic, recipe.train.gradient_checkpointing
    folder = options.model or recipe.model.policy if spec.trunk in ("policy", "reference") else spec.trunk
    trunk = replace(recipe.model, policy=folder, use_peft=False)
    if folder != recipe.model.policy:
        trunk = replace(trunk, model_revision=None)
    moves = spec.trains and spec.trunk != "reference"
    decoder = network.load_decoder(trunk, trained=moves, checkpointing=checkpointing)
    specs = dict(spec.heads) or {"value": options.head}
    heads, layers = {}, {}
    for name, given in specs.items():
        width, heads[name] = head_of(given)
        try:
            layers[name] = layer(heads[name], decoder, width, options.zero_init)
        except ValueError as error:
            raise RecipeError(f"critic.head: {error}") from None
    net = network.ValueNetwork(decoder, layers, {name: dict(given) for name, given in specs.items()})
    take_heads(net.heads, net.specs, Path(folder))
    return Critic(net, heads, accelerator, replace(recipe.train, learning_rate=options.learning_rate), spec)
