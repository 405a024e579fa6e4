"""MATH train, 7,500 problems: no test, but how hard each problem is for a policy."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "math", "split": "train"},
    reward={"name": "math_verify"},
    sampling=Sampling(temperature=1.0, max_tokens=4096),
    by=("subject", "level"),
    about="MATH train (arXiv 2103.03874), 7,500 problems; for pass rates",
)
