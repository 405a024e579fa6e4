"""Held-out sums of two numbers of two digits, 500 problems."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "arithmetic", "low": 10, "split": "heldout", "count": 500},
    reward={"name": "numeric"},
    sampling=Sampling(temperature=0.0, max_tokens=32),
    about="Held-out sums of two numbers of two digits, 500 problems",
)
