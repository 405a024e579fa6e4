"""Nim with three heaps of up to four, against a perfect player, from all starts that are won."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

GAME = {"name": "nim", "opponent": "perfect"}

plugin = Benchmark(
    data={"name": "games", "env": GAME, "split": "all"},
    env=GAME,
    max_turns=12,
    reward={"name": "environment"},
    sampling=Sampling(temperature=0.0, max_tokens=16),
    about="Nim with three heaps of up to four, against a perfect player, from all starts that are won",
)
