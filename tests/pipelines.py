"""Tiny pipelines for tests, and a kill of all that a command has started, as a machine that dies would."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path

MARK = "LLMRL_TEST_MARK"


def _tuned(max_steps: int, learning_rate: float) -> str:
    """The beginning of a pipeline: its place, and a stage of fine-tuning."""
    return f"""
output_dir: {{out}}
run_name: pipeline
stages:
  - name: sft
    sft: {{{{model: {{model}}, data: {{rows}}, max_steps: {max_steps}, learning_rate: {learning_rate}, batch_size: 8}}}}
"""


THREE = (
    _tuned(4, 1e-3)
    + """
  - name: collect
    collect:
      model: {{policy: "${{sft.final}}"}}
      data: {{name: arithmetic, high: 9}}
      reward: {{name: format, pattern: '.*[a-m].*'}}
      engine: {{name: hf}}
      rollout: {{num_generations: 4, prompts_per_step: 4, max_completion_length: 6, max_prompt_length: 32}}
      train: {{max_steps: 4, report_to: none, save_steps: 1}}
  - name: clone
    train:
      model: {{policy: "${{sft.final}}"}}
      algorithm: {{name: bc}}
      source: {{name: offline, path: "${{collect.rollouts}}"}}
      rollout: {{prompts_per_step: 4, max_completion_length: 6, max_prompt_length: 32}}
      train: {{max_steps: 6, learning_rate: 1e-3, report_to: none, save_steps: 1}}
"""
)
FIVE = (
    THREE
    + """
  - name: judge
    reward_model:
      kind: outcome
      model: {{model_name_or_path: "${{sft.final}}"}}
      data: {{train: "${{collect.rollouts}}", columns: rollout_pairs, test_share: 0}}
      input: {{max_length: 64}}
      train: {{max_steps: 2, per_device_train_batch_size: 2}}
  - name: check
    eval: {{model: "${{clone.final}}", benchmarks: [arithmetic], plan: {{limit: 4}}, setup: {{engine: hf}}}}
"""
)
SEARCHED = (
    _tuned(40, 3e-3)
    + """
  - name: trees
    search:
      model: "${{sft.final}}"
      data: {{name: arithmetic, high: 4}}
      search: majority:6
      reward: numeric
      engine: {{name: hf}}
      sampling: {{max_tokens: 4}}
      limit: 12
  - name: apo
    train:
      model: {{policy: "${{sft.final}}"}}
      algorithm: {{name: step_apo}}
      source: {{name: offline, path: "${{trees.preference}}"}}
      rollout: {{prompts_per_step: 4, max_completion_length: 6, max_prompt_length: 32}}
      train: {{max_steps: 2, report_to: none}}
"""
)


def write(folder: Path, text: str, model: Path) -> tuple[Path, Path]:
    """Write a recipe of stages and its rows into a folder; the recipe's path, and the pipeline's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(5) for b in range(5)]
    stored = folder / "rows.jsonl"
    stored.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = folder / "stages.yaml"
    recipe.write_text(text.format(out=folder, model=model, rows=stored))
    return recipe, folder / "pipeline"


def made(pipeline: Path) -> dict[str, str]:
    """SHA-256 of every model and of the episodes that the stages of a pipeline have left."""
    files = [*pipeline.glob("*/final/model.safetensors"), *pipeline.glob("*/rollouts.jsonl")]
    kept = [path for path in files if ".stale-" not in str(path)]
    return {str(path.relative_to(pipeline)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(kept)}


def finished(pipeline: Path) -> list[str]:
    """Names of the stages that are complete."""
    records = {path.parent.name: json.loads(path.read_text()) for path in pipeline.glob("*/stage.json")}
    return sorted(name for name, record in records.items() if record["finished"])


def kill_all(mark: str) -> None:
    """SIGKILL to every process that has the mark in its environment, until there is none."""
    while processes := _marked(mark):
        for process in processes:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def _marked(mark: str) -> list[int]:
    marked = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            variables = (place / "environ").read_bytes().split(b"\0")
            dead = (place / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            continue
        if f"{MARK}={mark}".encode() in variables and not dead and int(place.name) != os.getpid():
            marked.append(int(place.name))
    return marked
