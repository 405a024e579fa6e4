"""Score texts by a model of Transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def scored(network: Any, token_ids: Sequence[int], chunk_mb: int) -> list[float]:
    """Log-probability of every token after the first, at temperature 1.

    Args:
        network: a causal language model.
        token_ids: at least two.
        chunk_mb: MiB of float32 logits in one piece; pieces are read one after the other through the key-value cache,
            so that the logits of a long text are never held at once.
    """
    import torch
    from transformers import DynamicCache

    from llmrl.critics.language_model import vocabulary_of

    ids = torch.tensor(list(token_ids), device=network.device)
    piece = max(1, chunk_mb * 2**20 // (4 * vocabulary_of(network.config)))
    cache = None  # a text of one piece needs none, which not every model has
    if len(ids) - 1 > piece:
        cache = DynamicCache(config=network.config.get_text_config(decoder=True))
    chosen = []
    for part, targets in zip(ids[:-1].split(piece), ids[1:].split(piece), strict=True):
        logits = network(part[None], past_key_values=cache, use_cache=cache is not None).logits[0].float()
        chosen.append(logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0])
    return [float(x) for x in torch.cat(chosen).tolist()]
