"""The same reward model trained alone and by two processes under ZeRO 2 and 3: the same losses, the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

RECIPE = """
kind: process
model: {{model_name_or_path: {model}}}
data: {{train: {data}}}
input: {{max_length: 64}}
train: {{max_steps: 4, learning_rate: 3e-3, per_device_train_batch_size: {rows}, output_dir: {out}, logging_steps: 1}}
"""


def rows() -> list[dict[str, Any]]:
    """With one to three labels each: shares that divided by their own number of labels would not add up."""
    draw, made = Random(0), []
    for n in range(120):
        count = draw.randint(1, 3)
        steps = [str(draw.randint(0, 99)) for _ in range(count)]
        made.append({"prompt": f"{n}=", "completions": steps, "labels": [draw.randint(0, 1) for _ in steps]})
    return made


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["zero2", "zero3"])
def test_two_processes_learn_what_one_learns(
    launch: str, tiny_model_dir: Path, tmp_path: Path, llmrl: Callable[..., Any]
) -> None:
    data = tmp_path / "steps.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    made = {}
    for name, count in ((None, 16), (launch, 8)):
        recipe = tmp_path / f"{name}.yaml"
        recipe.write_text(RECIPE.format(model=tiny_model_dir, data=data, rows=count, out=tmp_path))
        llmrl("reward-model", str(recipe), launch=name).wait()
        lines = [json.loads(line) for line in (tmp_path / str(name) / "metrics.jsonl").read_text().splitlines()]
        made[name] = (
            [line["loss"] for line in lines if "loss" in line],
            load_file(tmp_path / str(name) / "model.safetensors"),
        )
    (losses, alone), (others, together) = made[None], made[launch]
    assert len(losses) == 4
    assert others == pytest.approx(losses, rel=1e-3)
    start = load_file(tiny_model_dir / "model.safetensors")
    # AdamW moves a weight by its learning rate even where the gradient is all rounding, so compare as a whole
    moved = torch.cat([(alone[name] - start[name]).flatten() for name in alone if name in start])
    differs = torch.cat([(together[name] - alone[name]).flatten() for name in alone if name in start])
    share = float(differs.norm() / moved.norm())
    print(f"{launch}: the weights differ by {share:.2g} of what they learned")
    assert share < 1e-2
