"""GSM8K (arXiv 2110.14168), 1,319 problems."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "gsm8k", "split": "test"},
    reward={"name": "math_verify"},
    sampling=Sampling(temperature=0.0, max_tokens=1024),
    about="GSM8K (arXiv 2110.14168), 1,319 problems",
)
