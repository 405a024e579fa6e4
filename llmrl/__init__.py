"""llmrl: post-training and reasoning RL for language models.

`import llmrl` is instant: nothing heavy is imported until it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from llmrl.api import Evaluated as Evaluated
    from llmrl.api import Generation as Generation
    from llmrl.api import StepState as StepState
    from llmrl.api import TrainedRun as TrainedRun
    from llmrl.api import evaluate as evaluate
    from llmrl.api import generate as generate
    from llmrl.api import train as train
    from llmrl.api import trained as trained
    from llmrl.errors import LlmrlError as LlmrlError
    from llmrl.recipe import Recipe as Recipe
    from llmrl.samples import Sample as Sample
    from llmrl.types import Completion as Completion
    from llmrl.types import Message as Message
    from llmrl.types import Observation as Observation
    from llmrl.types import Problem as Problem
    from llmrl.types import Sampling as Sampling
    from llmrl.types import Score as Score
    from llmrl.types import Trajectory as Trajectory

_HOMES = {
    **dict.fromkeys(
        ("Evaluated", "Generation", "StepState", "TrainedRun", "evaluate", "generate", "trained"), "llmrl.api"
    ),
    "train": "llmrl.train",
    "LlmrlError": "llmrl.errors",
    "Recipe": "llmrl.recipe",
    "Completion": "llmrl.types",
    "Message": "llmrl.types",
    "Observation": "llmrl.types",
    "Problem": "llmrl.types",
    "Sample": "llmrl.samples",
    "Sampling": "llmrl.types",
    "Score": "llmrl.types",
    "Trajectory": "llmrl.types",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'llmrl' has no attribute {name!r}")
    if name == "train":
        return importlib.import_module("llmrl.train")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
