"""The house of LMRL-Gym, from each of its 8 rooms."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

GAME = {"name": "text_nav"}

plugin = Benchmark(
    data={"name": "games", "env": GAME, "split": "all"},
    env=GAME,
    max_turns=50,
    reward={"name": "environment"},
    sampling=Sampling(temperature=0.0, max_tokens=32),
    about="The house of LMRL-Gym, from each of its 8 rooms",
)
