"""An evaluation in training, dealt to two processes: the records and numbers of one, and one error for both."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl.protocols import Benchmark
from llmrl.types import Sampling, Score, Trajectory

RECIPE = """
model: {{policy: {model}}}
data: {{name: arithmetic, high: 9}}
reward: {{name: format, pattern: '.*[0-4].*'}}
algorithm: {{name: grpo}}
engine: {{name: hf}}
rollout: {{num_generations: 2, prompts_per_step: 2, max_completion_length: 4, max_prompt_length: 64}}
train: {{max_steps: 1, learning_rate: 1e-4, output_dir: {out}, report_to: none, save_steps: 0}}
eval: {{every: 1, on_start: true, benchmarks: ['{here}:{benchmark}'], limit: 7, samples: 3}}
"""
HERE = "tests.e2e.test_eval_ranks"


@dataclass(frozen=True)
class Vowels:
    """Right if there is an a, e, i, o or u; with `silent_rank`, the process of that rank judges nothing."""

    silent_rank: str = "none"

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        if os.environ.get("RANK") == self.silent_rank:
            return [Score(1.0) for _ in group]
        right = [any(vowel in one.text.lower() for vowel in "aeiou") for one in group]
        return [Score(1.0, "correct") if yes else Score(0.0, "wrong") for yes in right]


GOOD = Benchmark(
    data={"name": "arithmetic"},
    reward={"name": f"{HERE}:Vowels"},
    sampling=Sampling(temperature=1.0, max_tokens=6),
)
BROKEN = Benchmark(
    data={"name": "arithmetic"},
    reward={"name": f"{HERE}:Vowels", "silent_rank": "1"},
    sampling=Sampling(temperature=1.0, max_tokens=6),
)


def start(llmrl: Callable[..., Any], folder: Path, model: Path, benchmark: str, launch: str | None) -> Any:
    recipe = folder / f"{launch}.yaml"
    recipe.write_text(RECIPE.format(model=model, out=folder / str(launch), here=HERE, benchmark=benchmark))
    return llmrl("train", str(recipe), "--quiet", launch=launch)


def test_two_processes_write_the_records_of_one(
    tiny_model_dir: Path, tmp_path: Path, llmrl: Callable[..., Any]
) -> None:
    made: list[tuple[dict[str, str], list[dict[str, float]]]] = []
    for launch in (None, "ddp"):
        start(llmrl, tmp_path, tiny_model_dir, "GOOD", launch).wait()
        (run,) = (tmp_path / str(launch)).iterdir()
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        metrics = [{key: value for key, value in line.items() if key.startswith("eval/")} for line in lines]
        files = {
            str(path.relative_to(run)): path.read_text()
            for path in (run / "eval").rglob("*.json*")
            if path.name != "config.json"  # it has the folder's name
        }
        made.append((files, metrics))
    assert made[0] == made[1]
    files, (line,) = made[0]
    assert sorted(files) == [
        f"eval/step-{step:06d}/{name}" for step in (0, 1) for name in ("results.json", f"{HERE}.GOOD.jsonl")
    ]
    rows = [json.loads(line) for line in files[f"eval/step-000000/{HERE}.GOOD.jsonl"].splitlines()]
    assert [row["sample"] for row in rows] == [0, 1, 2] * 7
    assert 0 < line[f"eval/{HERE}:GOOD/avg@3"] < 1


def test_an_error_of_one_process_ends_both(tiny_model_dir: Path, tmp_path: Path, llmrl: Callable[..., Any]) -> None:
    command = start(llmrl, tmp_path, tiny_model_dir, "BROKEN", "ddp")
    assert command.process.wait(240) != 0
    message = f"llmrl: benchmark {HERE}:BROKEN: its reward gives no verdict"
    assert message in command.log.read_text()
    assert "Timeout" not in command.log.read_text()
