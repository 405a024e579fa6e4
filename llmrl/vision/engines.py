"""Engines of models that see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from llmrl.errors import EngineError
from llmrl.types import Completion, Sampling


@runtime_checkable
class Seeing(Protocol):
    """An engine that reads pictures: `images` are those whose tokens are in the prompt, in their order."""

    sees: Literal[True]

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling, images: Sequence[str] = ()) -> Completion:
        """Generate a completion of the prompt and its pictures, each a path or a data URI."""


def require_alone(images: Sequence[str], beside: object, engine: str) -> None:
    """Refuse pictures where another model reads the prompt along, which would take their tokens for words.

    Raises:
        EngineError: there are both.
    """
    if images and beside:
        raise EngineError(
            f"engine {engine}: the prompt has pictures, and the mask policy or critic beside it reads texts alone; "
            "expected engine.mask_update_steps: null and engine.critic: null"
        )


def seeing(engine: Any) -> Seeing:
    """The engine, which reads pictures.

    Raises:
        EngineError: it reads none.
    """
    if not isinstance(engine, Seeing):
        raise EngineError(f"engine {type(engine).__name__}: it reads no pictures; expected engine.name=hf or vllm")
    return engine
