"""Draws on logits that are known: the distribution that they are of, and whose seed decides them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from llmrl.engines.hf.sampler import TokenSampler
from llmrl.types import Sampling

SCORES = torch.tensor([[3.0, 2.0, 1.0, -1.0, -4.0]])


def sampling(**options: float) -> Sampling:
    return Sampling(**{"max_tokens": 8, "seed": 0} | options)  # type: ignore[arg-type]


def drawn(scores: Tensor, *each: Sampling, steps: int = 200) -> list[tuple[list[int], list[float]]]:
    """Tokens and log-probabilities of requests that share a batch, `steps` draws from the same scores."""
    sampler = TokenSampler(list(each), "cpu", None)
    for _ in range(steps):
        sampler(torch.zeros(len(each), 1, dtype=torch.long), scores.expand(len(each), -1).clone())
    return [sampler.rows(i) for i in range(len(each))]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, 5),
        ({"temperature": 2.0}, 5),
        ({"temperature": 0.5}, 5),
        ({"top_p": 0.85}, 2),  # masses .66 .24 .09 ..: two hold 0.90
        ({"top_k": 3}, 3),
        ({"min_p": 0.2}, 2),  # exp(-1) is .37 of the likeliest, exp(-2) is .14
        ({"temperature": 2.0, "min_p": 0.2}, 3),
    ],
)
def test_log_probabilities_are_of_the_distribution_that_was_drawn_from(options: dict[str, float], kept: int) -> None:
    ((tokens, logprobs),) = drawn(SCORES, sampling(**options), steps=400)
    spread = (SCORES[0, :kept] / options.get("temperature", 1.0)).log_softmax(-1)
    assert set(tokens) <= set(range(kept))
    for token, logprob in zip(tokens, logprobs, strict=True):
        assert logprob == pytest.approx(float(spread[token]), abs=1e-5)
    share = tokens.count(0) / len(tokens)
    mass = float(spread[0].exp())
    assert share == pytest.approx(mass, abs=4 * (mass * (1 - mass) / len(tokens)) ** 0.5)


def test_greedy_takes_the_likeliest_with_its_log_probability_at_temperature_1() -> None:
    ((tokens, logprobs),) = drawn(SCORES, sampling(temperature=0.0), steps=2)
    assert tokens == [0, 0]
    assert logprobs == pytest.approx([float(SCORES.log_softmax(-1)[0, 0])] * 2)


def test_each_request_draws_from_its_own_seed() -> None:
    first, second, third = (tokens for tokens, _ in drawn(SCORES, *(sampling(seed=seed) for seed in (1, 2, 1))))
    assert first == third != second
    assert drawn(SCORES, sampling(seed=2))[0][0] == second, "whoever its neighbours are"
