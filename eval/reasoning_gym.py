"""reasoning-gym (arXiv 2505.24760), three problems of each task that is used, by seed 1,000,003."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "reasoning_gym", "count": 3, "seed": 1_000_003},
    reward={"name": "reasoning_gym"},
    sampling=Sampling(temperature=0.0, max_tokens=2048),
    by=("task",),
    about="reasoning-gym (arXiv 2505.24760), three problems of each of 88 tasks",
)
