"""King and rook against a king that defends best, 200 held-out positions."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

GAME = {"name": "chess_endgame", "piece": "R", "memory": False}

plugin = Benchmark(
    data={"name": "games", "env": GAME, "split": "heldout", "count": 200},
    env=GAME,
    max_turns=400,
    reward={"name": "environment"},
    sampling=Sampling(temperature=0.0, max_tokens=16),
    about="King and rook against a king that defends best, 200 held-out positions",
)
