"""Guess my city, each of 64 cities, a scripted answerer."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

GAME = {"name": "guess_city"}

plugin = Benchmark(
    data={"name": "games", "env": GAME, "split": "all"},
    env=GAME,
    max_turns=20,
    reward={"name": "environment"},
    sampling=Sampling(temperature=0.0, max_tokens=48),
    about="Guess my city, each of 64 cities, a scripted answerer",
)
