"""MATH-500 (arXiv 2305.20050), 500 problems."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "math500"},
    reward={"name": "math_verify"},
    sampling=Sampling(temperature=0.0, max_tokens=4096),
    by=("subject", "level"),
    about="MATH-500 (arXiv 2305.20050), 500 problems",
)
