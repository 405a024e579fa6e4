"""Ranks of answers by a policy and a value: each is its own, however they share batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM

from llmrl.critics.dueling import Answer, DuelingModel
from llmrl.critics.layers import StateLayer
from llmrl.ops.heads import Scalar

ANSWERS = [
    Answer([5, 6], [7]),
    Answer([5, 6, 9, 9], [7, 8, 9, 30, 31]),
    Answer([5], [8, 8]),
    Answer([6, 5], [9, 40, 7]),
]

Parts = tuple[Any, Any, Any, Any]


@pytest.fixture(scope="module")
def parts(tiny_model_dir: Path) -> Parts:
    policy, trunk = (kind.from_pretrained(tiny_model_dir).eval() for kind in (AutoModelForCausalLM, AutoModel))
    torch.manual_seed(0)
    return policy, trunk, StateLayer(nn.Linear(trunk.config.hidden_size, 1)), Scalar()


def test_ranks_stand_in_the_order_of_the_answers_whatever_batches_they_shared(parts: Parts) -> None:
    alone = [DuelingModel(*parts, 64).ranks([answer], 0.9, 0.5)[0] for answer in ANSWERS]
    together = DuelingModel(*parts, 8).ranks(ANSWERS, 0.9, 0.5)
    for one, other in zip(together, alone, strict=True):
        assert tuple(one) == pytest.approx(tuple(other), abs=1e-4)
    assert len({rank.value for rank in alone}) == len(ANSWERS)


def test_log_probabilities_are_of_the_answer_s_tokens_alone(parts: Parts) -> None:
    policy = parts[0]
    for answer, rank in zip(ANSWERS, DuelingModel(*parts, 64).ranks(ANSWERS, 0.9, 0.5), strict=True):
        ids = torch.tensor([[*answer.prompt, *answer.tokens]])
        with torch.no_grad():
            spread = policy(input_ids=ids).logits[0, len(answer.prompt) - 1 : -1].log_softmax(-1)
        whole = float(spread.gather(-1, torch.tensor(answer.tokens)[:, None]).sum())
        assert rank.logprob == pytest.approx(whole, abs=1e-4)
        assert rank.mean_logprob == pytest.approx(whole / len(answer.tokens), abs=1e-4)
