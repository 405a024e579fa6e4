"""MATH (arXiv 2103.03874), 5,000 problems."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "math", "split": "test"},
    reward={"name": "math_verify"},
    sampling=Sampling(temperature=0.0, max_tokens=4096),
    by=("subject", "level"),
    about="MATH (arXiv 2103.03874), 5,000 problems",
)
