"""Tokenizers that draw at random, exceed their model, or do not give back what they read: asked at load."""

from __future__ import annotations

import json
import logging
from typing import Any

from llmrl.errors import CheckpointError

log = logging.getLogger(__name__)
_TEXT = 'What is 12 + 34?\n\nAnswer: [46], {x_1}; A\'s "B".'


def require_repeatable(tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer that draws pieces at random.

    Raises:
        CheckpointError: it does; names the option.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    dropout = None if backend is None else getattr(backend.model, "dropout", None)
    if dropout:
        raise CheckpointError(
            f"{name}: its tokenizer draws pieces at random (dropout {dropout:g} in tokenizer.json), so that a text has "
            "many encodings; set it to null"
        )


def require_within(tokenizer: Any, vocabulary: int, name: str) -> None:
    """Refuse a tokenizer with tokens that the model's embedding does not have.

    Special tokens that no template writes are let through: models are published with a few of them.

    Raises:
        CheckpointError: a text may become such a token; names some.
    """
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= vocabulary}
    if not beyond:
        return
    special = {added.content for added in tokenizer.added_tokens_decoder.values() if added.special}
    ends = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token}
    template = json.dumps(tokenizer.chat_template, ensure_ascii=False, default=str)
    met = sorted(token for token in beyond if token not in special or token in ends or token in template)
    if met:
        more = f" and {len(met) - 3} more" if len(met) > 3 else ""
        raise CheckpointError(
            f"{name}: its tokenizer has {len(met)} tokens beyond the {vocabulary} that its model knows: "
            f"{', '.join(f'{token!r} ({beyond[token]})' for token in met[:3])}{more}; expected the tokenizer that "
            "belongs to the model, or a model whose embedding was made larger (resize_token_embeddings)"
        )


def warn_of_losses(tokenizer: Any, name: str) -> None:
    """Warn of a tokenizer that does not give back a plain English text: rewards read what it gives back."""
    ids = tokenizer(_TEXT, add_special_tokens=False)["input_ids"]
    back = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if back.lstrip() != _TEXT:
        log.warning(f"{name}: its tokenizer reads {_TEXT!r} and gives back {back!r}, which is what rewards will read")
