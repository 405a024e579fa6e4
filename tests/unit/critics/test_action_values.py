"""A critic's numbers of the tokens that could follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from llmrl.critics.action_values import load


def test_of_two_heads_the_lesser_counts_at_the_positions_that_are_kept(critic_dir: Path) -> None:
    critic: Any = load(str(critic_dir), "float32", "cpu")
    ids = torch.tensor([[5, 6, 7, 8]])
    states = critic.trunk(input_ids=ids).last_hidden_state
    first, second = (head.numbers(states) for head in critic.heads)
    least = torch.where(first < second, first, second)
    assert all((head - least).abs().max() > 0.01 for head in (first, second))
    assert torch.allclose(critic(input_ids=ids).logits, least, atol=1e-5)
    assert torch.allclose(critic(input_ids=ids, logits_to_keep=1).logits, least[:, -1:], atol=1e-5)
