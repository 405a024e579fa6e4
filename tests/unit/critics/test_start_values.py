"""A critic's numbers of prompts: those of the state behind the last token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from llmrl.critics.start_values import start_values


def test_a_prompt_s_number_is_that_of_the_state_behind_its_last_token(critic_dir: Path) -> None:
    prompts = [[5, 6, 7], [5, 6], [9]]
    found = start_values(str(critic_dir), prompts, device="cpu")
    weights = {name: w for path in critic_dir.glob("*.safetensors") for name, w in load_file(path).items()}
    (head,) = (weight for name, weight in weights.items() if name.startswith("v."))
    trunk = AutoModel.from_pretrained(critic_dir)
    for prompt, numbers in zip(prompts, found, strict=True):
        with torch.no_grad():
            state = trunk(input_ids=torch.tensor([prompt])).last_hidden_state[0, -1]
        assert numbers == {"v": pytest.approx(float(head[0] @ state), abs=1e-5)}
    assert len({numbers["v"] for numbers in found}) == 3
