"""Held-out functions of one line to repair, judged by their tests in the sandbox."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "bug_fixes", "split": "heldout", "count": 100},
    reward={"name": "swe_tests", "form": "strict", "timeout_s": 20.0},
    sampling=Sampling(temperature=0.0, max_tokens=256),
    about="100 held-out functions of one line to repair, judged by their tests",
)
