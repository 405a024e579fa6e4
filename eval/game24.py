"""The game of 24 (Tree of Thoughts, arXiv 2305.10601), its 100 hard puzzles."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "game24", "split": "test"},
    reward={"name": "game24"},
    sampling=Sampling(temperature=0.0, max_tokens=1024),
    about="The game of 24 (arXiv 2305.10601), 100 puzzles of ranks 901 to 1000",
)
