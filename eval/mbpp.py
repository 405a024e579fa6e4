"""MBPP (arXiv 2108.07732), 500 functions from a sentence and its three assertions, which judge them."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "mbpp", "split": "test", "shown_tests": 3},
    reward={"name": "code"},
    sampling=Sampling(temperature=0.0, max_tokens=1024),
    about="MBPP (arXiv 2108.07732), 500 functions from a sentence and three assertions",
)
