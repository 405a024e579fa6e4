"""Two trials of a search by the real command: runs, their metrics, and the front."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPE = """
model: {{policy: {model}}}
data: {{name: arithmetic, high: 9}}
reward: {{name: mix, parts: {{numeric: 0.5, format: {{weight: 0.5, pattern: '.*[0-9].*'}}}}}}
algorithm: {{name: grpo}}
engine: {{name: hf}}
rollout: {{num_generations: 2, prompts_per_step: 2, max_completion_length: 4, max_prompt_length: 32}}
train: {{max_steps: 1, report_to: none, save_steps: 0}}
"""
SPACE = """
weights: [reward.parts.numeric, reward.parts.format.weight]
objectives: {reward: maximize, completions/mean_length: minimize}
reference: [-0.01, 10]
sampler: random
"""


def test_a_search_of_reward_weights(tiny_model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(RECIPE.format(model=tiny_model_dir))
    (tmp_path / "space.yaml").write_text(SPACE)
    command = [
        sys.executable,
        "-m",
        "llmrl",
        "tune",
        str(tmp_path / "run.yaml"),
        "--space",
        str(tmp_path / "space.yaml"),
    ]
    command += ["--out", str(tmp_path / "out"), "--trials", "2", "train.learning_rate=1e-3"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("trial ") == 2
    told = json.loads((tmp_path / "out" / "front.json").read_text())
    assert told["trials"] == 2
    assert told["failed"] == 0
    assert told["front"]
    written = (tmp_path / "out" / "runs" / "trial-0001-0" / "recipe.yaml").read_text()
    assert "learning_rate: 0.001" in written
    for line in (tmp_path / "out" / "trials.jsonl").read_text().splitlines():
        overrides = json.loads(line)["overrides"]
        assert abs(sum(float(each.partition("=")[2]) for each in overrides) - 1) < 1e-5
