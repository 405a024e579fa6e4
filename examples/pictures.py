"""Train a model that sees: fine-tune it on pictures and their names, then by GRPO on the answers that are right.

A model of random weights learns to name the colour of a square. On a laptop's CPU it takes a minute. With `grey` behind
the folder every square is grey, and nothing can be learned but to name some colour.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageDraw

import llmrl
from llmrl.vision import tiny

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 220), "yellow": (230, 210, 40)}
GREY = {"grey": (128, 128, 128)}


def square(colour: str, random: Random) -> Image.Image:
    """A square of a colour, somewhere on a grey that is never the same."""
    grey = random.randrange(90, 200)
    picture = Image.new("RGB", (56, 56), (grey, grey, grey))
    left, top = random.randrange(16), random.randrange(16)
    shade = tuple(min(255, max(0, value + random.randrange(-25, 26))) for value in (COLOURS | GREY)[colour])
    ImageDraw.Draw(picture).rectangle((left, top, left + 40, top + 40), fill=shade)
    return picture


def rows(count: int, seed: int, folder: Path, grey: bool) -> list[dict[str, Any]]:
    """Questions about squares, and the files that show them."""
    random = Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        name = random.choice(list(COLOURS))
        file = folder / f"{seed}_{number}.png"
        square("grey" if grey else name, random).save(file)
        made.append({"prompt": "Which colour?", "images": [file.name], "answer": name})
    return made


def main(folder: Path, steps: int = 40, grey: bool = False) -> llmrl.TrainedRun:
    model, pictures = tiny.make(folder / "model"), folder / "pictures"
    rollout = {"max_prompt_length": 64, "max_completion_length": 8}
    stored = pictures / "stored.jsonl"
    answered = [row | {"completion": row["answer"]} for row in rows(64, 0, pictures, grey)]
    stored.write_text("".join(json.dumps(row) + "\n" for row in answered))
    asked = [row | {"images": [str(pictures / name) for name in row["images"]]} for row in rows(64, 1, pictures, grey)]
    copied = llmrl.train(
        {
            "model": {"policy": str(model)},
            "algorithm": {"name": "bc"},
            "source": {"name": "offline", "path": str(stored)},
            "rollout": rollout | {"prompts_per_step": 16},
            "train": {"max_steps": steps, "learning_rate": 3e-3, "output_dir": str(folder), "run_name": "copied"},
        }
    )
    run = llmrl.train(
        {
            "model": {"policy": str(copied.final)},
            "algorithm": {"name": "grpo"},
            "engine": {"name": "hf"},
            "rollout": rollout | {"prompts_per_step": 8, "num_generations": 8},
            "train": {"max_steps": steps, "learning_rate": 1e-3, "output_dir": str(folder), "run_name": "seen"},
        },
        reward="exact",
        data=asked,
        progress=True,
    )
    rewards = run.metrics["reward"]
    print("right answers by step: " + " ".join(f"{reward:.2f}" for reward in rewards))
    print(f"the model: {run.final}")
    return run


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples"), grey="grey" in sys.argv[2:])
