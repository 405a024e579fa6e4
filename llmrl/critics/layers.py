"""Heads as layers: how each kind reads the states of a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from llmrl.errors import RecipeError
from llmrl.ops.heads import HEADS, Attention, Capped, Head, attention_pool, wide
from llmrl.ops.logprobs import chosen_numbers, predicting
from llmrl.plugins import construct, did_you_mean

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A number of every token that could follow a state: an action value. Learns by the algorithm's own loss."""


KINDS: Mapping[str, type] = HEADS | {"vocabulary": Vocabulary}
"""Heads by name, those of single states and of the vocabulary."""


class Tokens(NamedTuple):
    """The facts of a batch that heads need beside its states; a tuple, whose tensors DeepSpeed finds."""

    ids: Tensor  # (B, T)
    position_ids: Tensor
    action_mask: Tensor
    sample_ids: Tensor
    chunks: int  # pieces in which numbers of a vocabulary are computed, the same on every rank


class StateLayer(nn.Module):
    """(B, T, K) float32 outputs for the state before each token, and for the state after it.

    The first token of a row has no state before it and gets 0.0; it is never an action. With a `residual` the body
    stands still, and the residual, which learns, is added to its outputs.
    """

    def __init__(self, body: nn.Module, residual: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body if residual is None else body.requires_grad_(False)
        self.residual = residual

    def forward(self, states: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
        after = self.body(states).float()
        if self.residual is not None:
            after = after + self.residual(states).float()
        return nn.functional.pad(after[:, :-1], (0, 0, 1, 0)), after


class VocabularyLayer(nn.Module):
    """(B, T) float32 number of each action token in the state before it, and its log-softmax over all numbers.

    In float32 whatever the trunk is.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body.float()

    def forward(self, states: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
        chosen = predicting(tokens.action_mask, tokens.sample_ids)
        asked = chosen.predicting(states), self.numbers, chosen.tokens(tokens.ids)
        numbers, logprobs = chosen_numbers(*asked, chunks=tokens.chunks)
        return chosen.scatter(numbers), chosen.scatter(logprobs)

    def numbers(self, states: Tensor) -> Tensor:
        """(N, V) of (N, H) states."""
        with torch.autocast(states.device.type, enabled=False):
            numbers: Tensor = self.body(states.to(_dtype(self)))
        return numbers


class AttentionLayer(nn.Module):
    """(B, T, 1) float32: every token gets its sample's output, which is of the tokens before the first action."""

    def __init__(self, width: int, queries: int, last: nn.Module) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(queries, width // queries))
        self.keys = nn.Linear(width, width, bias=False)  # a bias would move all scores alike
        self.values = nn.Linear(width, width)
        self.mix = nn.Linear(width, width)
        self.last = last.float()

    def forward(self, states: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
        samples = int(tokens.sample_ids.max()) + 1
        prompts = _prompts(tokens, samples)
        read, owner = states[prompts].to(_dtype(self)), tokens.sample_ids[prompts]
        with torch.autocast(states.device.type, enabled=False):
            shape = (len(owner), *self.query.shape)
            pooled = attention_pool(
                self.query, self.keys(read).view(shape), self.values(read).view(shape), owner, samples
            )
            outputs = wide(self.last(self.mix(pooled.flatten(1))))
        everywhere = outputs[tokens.sample_ids.clamp(min=0)]
        return everywhere, everywhere


class HeadSpec(NamedTuple):
    """A head and the layers that it asks for."""

    head: Head | Vocabulary
    width: int  # of a hidden layer before the last, in widths of the trunk; 0: none
    residual: bool  # beside a trained head, which stands still


def layer(spec: HeadSpec, model: PreTrainedModel, zero_init: bool) -> nn.Module:
    """The layers of a head on a trunk.

    Args:
        zero_init: the last layer begins at 0, so that a new head claims nothing; else at random, as that of a capped
            head always does, which has no slope there. A residual begins at 0.
    Raises:
        ValueError: an attention head whose `queries` do not divide the trunk's width.
    """
    head, width, residual = spec
    config: Any = model.config.get_text_config()
    outputs = int(config.vocab_size) if isinstance(head, Vocabulary) else head.outputs
    hidden, dtype = int(config.hidden_size), next(model.parameters()).dtype
    if isinstance(head, Attention):
        if hidden % head.queries:
            raise ValueError(f"queries {head.queries}: expected a divisor of the trunk's width, {hidden}")
        last = _body(hidden, outputs, width, torch.float32, zero_init, bias=True)
        return AttentionLayer(hidden, head.queries, last)
    body = _body(hidden, outputs, width, dtype, zero_init and not isinstance(head, Capped))
    if isinstance(head, Vocabulary):
        return VocabularyLayer(body)
    return StateLayer(body, _body(hidden, outputs, width, dtype, zero_init=True) if residual else None)


def head_of(given: Mapping[str, Any]) -> HeadSpec:
    """The head of a spec, as `critic.head` has it.

    Raises:
        RecipeError: no such head, or an option that it does not have.
    """
    kind = dict(given)
    name, width, residual = str(kind.pop("name", "scalar")), kind.pop("width", 0), kind.pop("residual", False)
    if name not in KINDS:
        raise RecipeError(
            f"critic.head.name: unknown head {name!r}{did_you_mean(name, HEADS)}; known: {', '.join(HEADS)}"
        )
    if not isinstance(width, int) or width < 0:
        raise RecipeError(f"critic.head.width {width!r}: expected a whole number of widths of the trunk, or 0")
    if residual is not False and (residual is not True or name in ("vocabulary", "attention")):
        raise RecipeError(f"critic.head.residual {residual!r} of {name}: expected true or false, true of single states")
    return HeadSpec(construct(KINDS[name], kind, "critic.head"), width, residual)


def _body(inputs: int, outputs: int, width: int, dtype: torch.dtype, zero_init: bool, bias: bool = False) -> nn.Module:
    """A linear layer, below it a hidden one where there is a `width`."""
    below = [nn.Linear(inputs, width * inputs, dtype=dtype), nn.ReLU()] if width else []
    last = nn.Linear(width * inputs if width else inputs, outputs, bias=bias, dtype=dtype)
    if zero_init:
        nn.init.zeros_(last.weight)
    else:
        nn.init.normal_(last.weight, std=last.in_features**-0.5)
    if bias:
        nn.init.zeros_(last.bias)
    return nn.Sequential(*below, last) if below else last


def _prompts(tokens: Tokens, samples: int) -> Tensor:
    """(B, T) bool: real tokens before the first action of their sample."""
    owner, places = tokens.sample_ids.clamp(min=0), tokens.position_ids
    beyond = tokens.sample_ids.numel()
    acting = torch.where(tokens.action_mask, places, beyond).flatten()
    first = acting.new_full((samples,), beyond).scatter_reduce(0, owner.flatten(), acting, "amin")
    return (tokens.sample_ids >= 0) & (places < first[owner])


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype
