"""Heads on the states of a trunk: the state that each number is of, what learns, and how a head begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModel

from llmrl.critics.layers import AttentionLayer, StateLayer, Tokens, head_of, layer


def tokens(*turns: list[int]) -> Tokens:
    """Padded rows of these turns: -1 is a prompt's token or an observation, -9 padding."""
    width = len(turns[0])
    numbers = torch.tensor(turns)
    owners = torch.arange(len(turns))[:, None].expand(-1, width)
    positions = torch.arange(width).expand(len(turns), -1)
    return Tokens(numbers, positions, numbers >= 0, torch.where(numbers == -9, -1, owners), 1)


def test_a_number_is_that_of_the_state_before_its_token_and_of_the_state_after_it() -> None:
    states = torch.tensor([[[1.0], [2.0], [4.0]]])
    body = nn.Linear(1, 1, bias=False)
    nn.init.constant_(body.weight, 3.0)
    before, after = StateLayer(body)(states, tokens([-1, 0, 0]))
    assert before.flatten().tolist() == [0.0, 3.0, 6.0]
    assert after.flatten().tolist() == [3.0, 6.0, 12.0]


def test_beside_a_residual_the_body_stands_still() -> None:
    body, residual = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    both = StateLayer(body, residual)
    both(torch.ones(1, 2, 1), tokens([-1, 0]))[1].sum().backward()
    assert body.weight.grad is None
    assert residual.weight.grad is not None
    assert [name for name, weight in both.named_parameters() if weight.requires_grad] == ["residual.weight"]


def test_attention_reads_the_tokens_before_the_first_action_and_no_other() -> None:
    torch.manual_seed(0)
    head = AttentionLayer(4, 2, nn.Linear(4, 1))
    batch = tokens([-1, -1, 0, -1, 1], [-1, 0, 0, -9, -9])
    states = torch.randn(2, 5, 4)
    given = head(states, batch)[0]
    for row, prompt in ((0, 2), (1, 1)):
        other = states.clone()
        other[row, prompt:] += 1.0
        assert torch.equal(head(other, batch)[0], given), "answers, observations and padding"
        other[row, prompt - 1] += 1.0
        assert not torch.equal(head(other, batch)[0][row], given[row])


@pytest.mark.parametrize(
    ("kind", "zero_init", "begins_at_zero"),
    [
        ({"name": "scalar"}, True, True),
        ({"name": "scalar"}, False, False),
        ({"name": "scalar", "width": 1}, True, True),
        ({"name": "vocabulary"}, True, True),
        ({"name": "attention"}, True, True),
        ({"name": "capped"}, True, False),
        ({"name": "capped", "residual": True}, True, False),
    ],
)
def test_a_new_head_claims_nothing_but_where_it_would_have_no_slope(
    tiny_model_dir: Path, kind: dict[str, Any], zero_init: bool, begins_at_zero: bool
) -> None:
    made: Any = layer(head_of(kind), AutoModel.from_pretrained(tiny_model_dir), zero_init)
    body = made.last if kind["name"] == "attention" else made.body
    last: Any = body[-1] if isinstance(body, nn.Sequential) else body
    assert (last.weight == 0).all() == begins_at_zero
    if kind.get("residual"):
        assert (made.residual.weight == 0).all()
