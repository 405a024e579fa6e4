"""Wordle, 65 held-out words of our own list."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

GAME = {"name": "wordle", "rule": "standard"}

plugin = Benchmark(
    data={"name": "games", "env": GAME, "split": "heldout"},
    env=GAME,
    max_turns=6,
    reward={"name": "environment"},
    sampling=Sampling(temperature=0.0, max_tokens=16),
    about="Wordle, 65 held-out words of our own list",
)
