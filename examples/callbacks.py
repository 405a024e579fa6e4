"""See every step, and steer the run: stop it when it is good enough, save it when it was never better."""

from __future__ import annotations

import sys
from pathlib import Path

import llmrl
from llmrl import tiny


def digits(completions: list[str], **columns: object) -> list[float]:
    """Share of the characters that are digits."""
    return [sum(character.isdigit() for character in text) / max(1, len(text)) for text in completions]


class Watch:
    """A callback with a memory of its own; a plain function does as well."""

    def __init__(self, enough: float) -> None:
        self.enough = enough
        self.best = 0.0

    def __call__(self, state: llmrl.StepState) -> None:
        reward = state.metrics["reward"]
        print(f"step {state.step} of {state.max_steps}: reward {reward:.2f}, such as {state.episodes[0].text!r}")
        if reward > self.best:
            self.best = reward
            state.save()
        if reward >= self.enough:
            state.stop(f"reward {reward:.2f}")


def main(folder: Path, steps: int = 30, enough: float = 0.5) -> llmrl.TrainedRun:
    model = tiny.make(folder / "model", vocab="arithmetic", hidden=64, layers=2)
    recipe = {
        "model": {"policy": str(model)},
        "algorithm": {"name": "grpo"},
        "engine": {"name": "hf"},
        "rollout": {"prompts_per_step": 4, "num_generations": 8, "max_completion_length": 8},
        "train": {"max_steps": steps, "learning_rate": 3e-3, "output_dir": str(folder), "run_name": "watched"},
    }
    rows = [{"prompt": f"{number}+{number}="} for number in range(10, 30)]
    run = llmrl.train(recipe, reward=digits, data=rows, on_step=Watch(enough))
    print(f"{run.manifest['status']} after {len(run.metrics)} steps")
    return run


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples"))
