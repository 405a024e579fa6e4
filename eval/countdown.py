"""Countdown (TinyZero), 2,001 puzzles."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "countdown", "split": "test"},
    reward={"name": "countdown"},
    sampling=Sampling(temperature=0.0, max_tokens=1024),
    by=("count",),
    about="Countdown (TinyZero), 2,001 puzzles",
)
