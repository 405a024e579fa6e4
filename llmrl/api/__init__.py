"""llmrl from Python: `llmrl.train`, `llmrl.evaluate`, `llmrl.generate`, and what they return; see docs/python.md."""

from llmrl.api.asking import evaluate, generate
from llmrl.api.results import Evaluated, Generation, Metrics, TrainedRun
from llmrl.api.training import train, trained
from llmrl.train.callbacks import StepState

__all__ = ["Evaluated", "Generation", "Metrics", "StepState", "TrainedRun", "evaluate", "generate", "train", "trained"]
