"""The critic: a second trained model that gives one number per token."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from llmrl.batch import Batch
from llmrl.errors import RecipeError
from llmrl.ops.heads import HEADS, Head
from llmrl.plugins import construct, did_you_mean
from llmrl.protocols import Forward
from llmrl.recipe import Recipe, TrainOptions
from llmrl.train import network
from llmrl.train.learner import Learner


class Critic(Learner):
    """A trained model of numbers per token, whose meaning the algorithm defines: a value, a turn's value, a reward."""

    def __init__(self, net: network.ValueNetwork, head: Head, accelerator: Any, options: TrainOptions) -> None:
        self.head = head
        super().__init__(net, accelerator, options)

    def forward(self, batch: Batch, chunks: int, *, entropy_grad: bool = False) -> Forward:
        """Compute the numbers of the states before and after each token; `value_loss` is about those before."""
        before, after = self.module(batch.token_ids, batch.position_ids)
        return Forward(
            values=self.head.values(before),
            next_values=self.head.values(after),
            value_loss=partial(self.head.terms, before),
        )

    def weights(self, batch: Batch) -> Tensor:
        """(B, T) weights for the critic, which are the policy's unless the algorithm sets `value_weights`."""
        return batch.value_weights


def load(recipe: Recipe, accelerator: Any) -> Critic:
    """Load the critic of a recipe: the policy's network, or `critic.model`, under a fresh head.

    Raises:
        CheckpointError: no such model.
        RecipeError: no such head, or an option that it does not have.
    """
    options = recipe.critic
    body = replace(recipe.model, policy=options.model or recipe.model.policy, use_peft=False)
    if options.model is not None:
        body = replace(body, model_revision=None)
    decoder = network.load_decoder(body, checkpointing=recipe.train.gradient_checkpointing)
    kind = dict(options.head)
    name = str(kind.pop("name", "scalar"))
    if name not in HEADS:
        raise RecipeError(
            f"critic.head.name: unknown head {name!r}{did_you_mean(name, HEADS)}; known: {', '.join(HEADS)}"
        )
    head = construct(HEADS[name], kind, "critic.head")
    net = network.ValueNetwork(decoder, head.outputs, options.zero_init)
    return Critic(net, head, accelerator, replace(recipe.train, learning_rate=options.learning_rate))
