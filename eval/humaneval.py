"""HumanEval (arXiv 2107.03374), 164 functions to complete, judged by their tests."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "humaneval"},
    reward={"name": "code"},
    sampling=Sampling(temperature=0.0, max_tokens=1024),
    about="HumanEval (arXiv 2107.03374), 164 functions to complete",
)
