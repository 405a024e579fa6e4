"""AMC 2023, 40 problems."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "amc23"},
    reward={"name": "math_verify"},
    sampling=Sampling(temperature=0.6, top_p=0.95, max_tokens=16384),
    samples=16,
    about="AMC 2023, 40 problems",
)
