"""Log-probabilities and kept ids of sampled tokens, from vLLM's outputs."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from llmrl.errors import EngineError


def sampled_logprobs(logprobs: Any, ids: Sequence[int]) -> array[float]:
    """Log-probability of each sampled token, out of vLLM's flat lists, where it stands first in its position.

    Raises:
        EngineError: another token stands there.
    """
    first = logprobs.start_indices
    if len(first) != len(ids) or any(logprobs.token_ids[i] != token for i, token in zip(first, ids, strict=True)):
        raise EngineError(
            f"engine vllm: {len(first)} log-probabilities for {len(ids)} tokens, or those of others; this version of "
            "vLLM does not say what it sampled. Use engine.name=hf, and report it"
        )
    return array("f", (logprobs.logprobs[i] for i in first))


def kept_ids(nucleus: dict[str, Any], ids: Sequence[int]) -> list[array[int]]:
    """Ids that were kept for each token of a finished request.

    Raises:
        EngineError: a token is not among its kept ids, so that no ratio could be trusted.
    """
    from llmrl.engines.vllm.nucleus import OPTION, taken

    kept = taken(nucleus[OPTION][0])[: len(ids)]
    if len(kept) < len(ids) or not all(token in among for token, among in zip(ids, kept, strict=True)):
        raise EngineError(
            f"engine vllm: {len(kept)} sets of kept tokens for {len(ids)} tokens, or a token outside its own; this "
            "version of vLLM does not sample what llmrl's logits processor left. Use engine.name=hf, and report it"
        )
    return kept
