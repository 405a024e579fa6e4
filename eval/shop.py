"""A small shop in Chromium, judged by its database, 20 test goals of each kind."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "shop", "seeds": 20, "split": "test"},
    env={"name": "shop"},
    max_turns=30,
    reward={"name": "environment"},
    sampling=Sampling(temperature=0.0, max_tokens=256),
    by=("kind",),
    about="A small shop in Chromium, judged by its database, 20 test goals of each of 7 kinds",
)
