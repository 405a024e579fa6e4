"""MiniWoB++ (arXiv 1802.08802) in Chromium, 5 test pages of each task that is used."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "miniwob", "tasks": ["all"], "seeds": 5, "split": "test"},
    env={"name": "miniwob"},
    max_turns=25,
    reward={"name": "environment"},
    sampling=Sampling(temperature=0.0, max_tokens=256),
    by=("kind",),
    about="MiniWoB++ (arXiv 1802.08802) in Chromium, 5 test pages of each of 77 tasks",
)
