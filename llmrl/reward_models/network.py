"""The network of a reward model: a Hugging Face classifier with one output, whose head computes in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from llmrl.critics import language_model
from llmrl.errors import CheckpointError
from llmrl.reward_models.card import Kind
from llmrl.reward_models.encoding import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class WideLinear(nn.Linear):
    """A linear layer in float32, under autocast too: in bfloat16 there are 128 scores from 1 to 2, and ties."""

    def forward(self, states: Tensor) -> Tensor:
        with torch.autocast(states.device.type, enabled=False):
            return nn.functional.linear(states.float(), self.weight, self.bias)


def pretrained(kind: Kind, model: str | Path, **options: Any) -> PreTrainedModel:
    """Load the classifier that a kind needs: one number per sequence for `outcome`, one per token for the others.

    Args:
        kind: of reward model.
        model: a folder or a hub name; without a head of its own it gets a random one, of mean 0.
        options: for Transformers' `from_pretrained`.
    Raises:
        CheckpointError: it does not load.
    """
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    maker = AutoModelForSequenceClassification if kind == "outcome" else AutoModelForTokenClassification
    try:
        made: PreTrainedModel = language_model.pretrained(maker, str(model), num_labels=1, **options)
    except Exception as error:  # configurations, weights and remote code fail in many ways
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"{model}: does not load as a reward model: {type(error).__name__}: {reason}") from error
    plain: Any = made
    old = plain.score
    wide = WideLinear(old.in_features, old.out_features, bias=old.bias is not None, dtype=torch.float32)
    wide.load_state_dict(old.state_dict())
    plain.score = wide
    for module in made.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return made


def token_logits(model: Any, token_ids: Tensor, mask: Tensor) -> Tensor:
    """(B, T) the head's number at every token, float32; meaningless at padding."""
    body = getattr(model, model.base_model_prefix)
    states = body(input_ids=token_ids, attention_mask=mask.long(), use_cache=False).last_hidden_state
    numbers: Tensor = model.score(states).squeeze(-1)
    return numbers


def padded(rows: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """(B, T) token ids, padded at the right with 0, and the mask of real tokens, by lengths and never by an id."""
    width = max(len(row.token_ids) for row in rows)
    token_ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        token_ids[index, : len(row.token_ids)] = torch.tensor(row.token_ids)
        mask[index, : len(row.token_ids)] = True
    return token_ids, mask


def by_tokens(rows: Sequence[Encoded], tokens: int) -> Iterator[list[int]]:
    """Batch row indices by length, with at most so many tokens, padding included, and at least one row."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda i: -len(rows[i].token_ids)):
        if batch and len(rows[batch[0]].token_ids) * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
