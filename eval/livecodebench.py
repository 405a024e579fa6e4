"""LiveCodeBench (arXiv 2403.07974): problems of programming contests, by standard input or by a method."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "livecodebench"},
    reward={"name": "code"},
    sampling=Sampling(temperature=0.2, top_p=0.95, max_tokens=8192),
    samples=10,
    by=("difficulty", "platform"),
    about="LiveCodeBench (arXiv 2403.07974), problems of programming contests",
)
