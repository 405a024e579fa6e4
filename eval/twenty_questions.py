"""Twenty questions about each of 51 objects, a scripted answerer."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

GAME = {"name": "twenty_questions"}

plugin = Benchmark(
    data={"name": "games", "env": GAME, "split": "all"},
    env=GAME,
    max_turns=20,
    reward={"name": "environment"},
    sampling=Sampling(temperature=0.0, max_tokens=48),
    about="Twenty questions about each of 51 objects, a scripted answerer",
)
