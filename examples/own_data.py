"""Train on rows of your own with a verifier of your own, and look at what the policy answered.

Rows are dictionaries or a `datasets.Dataset`; all their columns reach the reward by `problem.info`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from datasets import Dataset

import llmrl
from llmrl import tiny


def even(problem: llmrl.Problem, text: str) -> llmrl.Score:
    """Judge an answer: right where it has a character of the wanted kind, and a share for the others."""
    wanted = problem.info["wanted"]
    share = sum(character in wanted for character in text) / max(1, len(text))
    return llmrl.Score(share, "correct" if share > 0.5 else "wrong", reason=f"{share:.0%} of {wanted!r}")


def main(folder: Path, steps: int = 30) -> llmrl.TrainedRun:
    model = tiny.make(folder / "model", vocab="arithmetic", hidden=64, layers=2)
    rows = Dataset.from_list([{"question": f"{n}*2=", "wanted": "02468"} for n in range(10, 30)])
    recipe = {
        "model": {"policy": str(model)},
        "data": {"rows": rows, "prompt_column": "question"},
        "reward": even,
        "algorithm": {"name": "rloo"},
        "engine": {"name": "hf"},
        "rollout": {"prompts_per_step": 4, "num_generations": 8, "max_completion_length": 8},
        "train": {"max_steps": steps, "learning_rate": 3e-3, "output_dir": str(folder), "run_name": "even"},
    }
    run = llmrl.train(recipe)
    best = max(run.episodes(), key=lambda record: record.trajectory.earned or 0.0)
    print(f"the best answer of {len(run.metrics)} steps, in step {best.step}: {best.trajectory.text!r}")
    print(f"why: {best.trajectory.score.reason if best.trajectory.score else 'not scored'}")
    return run


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples"))
