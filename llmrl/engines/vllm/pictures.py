"""Pictures in vLLM's prompts, which vLLM spells out by itself."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from llmrl.errors import EngineError
from llmrl.vision import sight
from llmrl.vision.pictures import opened


def options(model: str) -> dict[str, Any]:
    """Options of `vllm.LLM` for a model that sees; none for others.

    Its processors need the tokenizer. Most of vLLM's own models that see need torchvision, of which PyPI has no build
    for a CPU: without it they run by Transformers' code.
    """
    if not sight.sees(model):
        return {}
    own = {} if find_spec("torchvision") else {"model_impl": "transformers"}
    return {"skip_tokenizer_init": False, **own}


def prompt(model: str, prompt_ids: Sequence[int], images: Sequence[str]) -> dict[str, Any]:
    """A prompt and its pictures as vLLM takes them."""
    if not images:
        return {"prompt_token_ids": list(prompt_ids)}
    ids = sight.load(model).collapsed(prompt_ids, images)
    return {"prompt_token_ids": ids, "multi_modal_data": {"image": [opened(image) for image in images]}}


def require_same(sampled_from: Sequence[int], prompt_ids: Sequence[int]) -> None:
    """Compare what vLLM has sampled from with the prompt that will be trained.

    Raises:
        EngineError: they differ.
    """
    if list(sampled_from) != list(prompt_ids):
        raise EngineError(
            f"engine vllm: with its pictures the prompt has {len(sampled_from)} tokens in vLLM, {len(prompt_ids)} in "
            "Transformers: what is sampled would not be what is trained; try engine.name=hf"
        )
