"""AIME 2025, 30 problems."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "aime25"},
    reward={"name": "math_verify"},
    sampling=Sampling(temperature=0.6, top_p=0.95, max_tokens=32768),
    samples=16,
    about="AIME 2025, 30 problems",
)
