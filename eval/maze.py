"""The double T of LMRL-Gym, all of its 25 starts."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

GAME = {"name": "maze"}

plugin = Benchmark(
    data={"name": "games", "env": GAME, "split": "all"},
    env=GAME,
    max_turns=101,
    reward={"name": "environment"},
    sampling=Sampling(temperature=0.0, max_tokens=16),
    about="The double T of LMRL-Gym, all of its 25 starts",
)
