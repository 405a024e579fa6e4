"""Sentences of given words, 200 held-out sets; `naturalness` is measured beside."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "constrained_text", "split": "heldout", "count": 200},
    reward={"name": "mix", "parts": {"coverage": 1.0, "naturalness": 0.0}},
    sampling=Sampling(temperature=0.0, max_tokens=64),
    by=("scene",),
    about="Constrained text, 200 held-out sets of words, all of which must be used",
)
