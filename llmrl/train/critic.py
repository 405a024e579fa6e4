"""Models of numbers: the critic, or those that an algorithm asks for, under their heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmrl.batch import Batch
from llmrl.critics.folder import head_specs, take_heads
from llmrl.critics.layers import Tokens, Vocabulary, head_of, layer
from llmrl.errors import RecipeError
from llmrl.ops.heads import Head
from llmrl.protocols import Forward, ModelSpec
from llmrl.recipe import Recipe, TrainOptions
from llmrl.train import network
from llmrl.train.learner import Learner
from llmrl.train.parallel import frozen
from llmrl.train.targets import Targets, copy_of


class Critic(Learner):
    """A model of numbers per token, whose meaning the algorithm defines: a value, an action's value, a reward."""

    def __init__(
        self,
        net: network.ValueNetwork,
        heads: Mapping[str, Head | Vocabulary],
        accelerator: Any,
        options: TrainOptions,
        spec: ModelSpec = ModelSpec(),  # noqa: B008 (a value)
        copied: nn.Module | None = None,
    ) -> None:
        self.heads = heads
        self.columns = spec.columns
        self.trains = spec.trains
        self.targets = None if copied is None else Targets(copied, spec, accelerator)
        if spec.trains:
            super().__init__(net, accelerator, options)
        else:
            self._hold(net, accelerator, options)
            self.module = frozen(net, accelerator, bf16=options.bf16)

    @property
    def nets(self) -> list[network.Network]:
        """The network, and its Polyak copy where that reads tokens."""
        return [self.net, *([self.targets.copy.net] if self.targets is not None and not self.targets.of_heads else [])]

    def forward(self, batch: Batch, chunks: int, *, entropy_grad: bool = False, peaks: bool = False) -> Forward:
        """Compute the numbers of the states before and after each token, and those of the tokens.

        Raises:
            RecipeError: the rows have pictures, which a trunk does not see.
        """
        if any(batch.images):
            raise RecipeError(
                "critics read texts alone, and the rows have pictures; expected an algorithm without a critic, such as "
                "grpo or rloo"
            )
        tokens = Tokens(batch.token_ids, batch.position_ids, batch.action_mask, batch.sample_ids, chunks)
        outputs = self.module(tokens, self.targets is not None and self.targets.of_heads)
        (states,) = outputs.pop("states", (None,))
        copies, copies_after = self._read(self.targets(states, tokens) if self.targets is not None else {})
        own, after = self._read(outputs)
        of_states = [name for name in own if not isinstance(self.heads[name], Vocabulary)]
        actions = {name: (copies or own)[name].detach() for name in own if name not in of_states}
        first: dict[str, Any] = {}
        if of_states:
            name = of_states[0]
            losses = {name: self._loss(name, outputs[name][0]) for name in of_states}
            first = {"values": own[name], "next_values": after[name]}
            first |= {"value_loss": losses[name], "head_losses": losses}
        if actions:
            first["action_values"] = torch.stack(list(actions.values())).amin(0)
        logprobs = {name: outputs[name][1] for name in actions}
        new = Forward(
            **first,
            heads=own,
            next_heads=after,
            head_logprobs=logprobs or None,
            target_heads=copies or None,
            next_target_heads=copies_after or None,
        )
        return new.with_columns(**{name: column(new) for name, column in self.columns.items()})

    def weights(self, batch: Batch) -> Tensor:
        """(B, T) weights for the critic, which are the policy's unless the algorithm sets `value_weights`."""
        return batch.value_weights

    def stepped(self) -> None:
        """Let the Polyak copies take their share of the heads."""
        if self.targets is not None:
            self.targets.follow(self.net)

    def _loss(self, name: str, outputs: Tensor) -> Callable[[Tensor], Tensor]:
        """(B, T) targets to (B, T) terms: the own loss of a head of states."""
        head: Any = self.heads[name]
        return partial(head.terms, outputs)

    def _read(self, outputs: Mapping[str, tuple[Tensor, ...]]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Numbers about each token by head, and those of the state after it."""
        own, after = {}, {}
        for name, (first, second) in outputs.items():
            head = self.heads[name]
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
        wanted = head_of(given)
        heads[name] = wanted.head
        try:
            layers[name] = layer(wanted, decoder, options.zero_init)
        except ValueError as error:
            raise RecipeError(f"critic.head: {error}") from None
        if wanted.residual and name not in head_specs(Path(folder)):
            raise RecipeError(
                f"critic.model {folder}: it has no head {name}, beside which the algorithm learns a residual; expected "
                "final/critic of a run that trained that head, such as one with algorithm.stage=values"
            )
    net = network.ValueNetwork(decoder, layers, {name: dict(given) for name, given in specs.items()})
    take_heads(net.heads, net.specs, Path(folder))
    copied = copy_of(net, spec, lambda: network.load_decoder(trunk, trained=False))
    return Critic(net, heads, accelerator, replace(recipe.train, learning_rate=options.learning_rate), spec, copied)
