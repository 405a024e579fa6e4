"""Train in an environment of your own: three methods, in messages; it never sees a token.

A door opens for an even number. The policy may try three times, and hears each time whether it opened.
"""

from __future__ import annotations

import sys
from pathlib import Path

import llmrl
from llmrl import tiny


class Door:
    """One episode: made for a problem, used once, closed."""

    def __init__(self, problem: llmrl.Problem) -> None:
        self.problem = problem

    async def reset(self) -> llmrl.Observation:
        return llmrl.Observation(messages=list(self.problem.messages))

    async def step(self, message: llmrl.Message) -> llmrl.Observation:
        opens = any(character in "02468" for character in message["content"])
        reply = {"role": "user", "content": "open" if opens else "shut"}
        return llmrl.Observation(messages=[reply], reward=float(opens), done=opens)

    async def close(self) -> None:
        """Nothing is held."""


def main(folder: Path, steps: int = 20) -> llmrl.TrainedRun:
    model = tiny.make(folder / "model", vocab="arithmetic", hidden=64, layers=2)
    recipe = {
        "model": {"policy": str(model)},
        "reward": {"name": "environment"},  # what the environment gave
        "algorithm": {"name": "grpo"},
        "engine": {"name": "hf"},
        "rollout": {"prompts_per_step": 4, "num_generations": 4, "max_completion_length": 2, "max_turns": 3},
        "train": {"max_steps": steps, "learning_rate": 3e-3, "output_dir": str(folder), "run_name": "door"},
    }
    run = llmrl.train(recipe, env=Door, data=[{"prompt": f"door {number}"} for number in range(8)])
    episode = next(run.episodes()).trajectory
    for turn in episode.turns:
        print(f"policy: {turn.text!r}  door: {' '.join(str(reply['content']) for reply in turn.reply)}")
    print(f"reward {run.metrics['reward'][0]:.2f} before, {run.metrics['reward'][-1]:.2f} after")
    return run


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples"))
