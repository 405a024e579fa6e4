"""SWE-bench Lite (arXiv 2310.06770), solved by Agentless-Mini; graded as `--grade` says."""

from llmrl.protocols import Benchmark
from llmrl.types import Sampling

plugin = Benchmark(
    data={"name": "swe_bench", "subset": "lite"},
    reward={"name": "swe_patch"},
    sampling=Sampling(temperature=0.0, max_tokens=4096),
    method="agentless",
    judged=False,
    about="SWE-bench Lite (arXiv 2310.06770), 300 issues, by Agentless-Mini",
)
