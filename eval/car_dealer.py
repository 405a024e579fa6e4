"""The car dealer against 200 held-out scripted buyers."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

GAME = {"name": "car_dealer"}

plugin = Benchmark(
    data={"name": "games", "env": GAME, "split": "heldout", "count": 200},
    env=GAME,
    max_turns=25,
    reward={"name": "environment"},
    sampling=Sampling(temperature=0.0, max_tokens=128),
    about="The car dealer against 200 held-out scripted buyers",
)
