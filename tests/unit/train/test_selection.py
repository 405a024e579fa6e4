"""Stored answers are chosen by their numbers."""

from __future__ import annotations

import pytest

from llmrl.train.selection import _Answers
from tests.builders import row


def test_an_answer_is_as_unlikely_as_its_tokens_are_on_average() -> None:
    """Four tokens of 1 nat are likelier than one of 2; prompts, and answers to be rejected, take no part."""
    samples = [
        row(episode=0, reward=1.0, actions=4, ref_logprobs=[-9.0, -1.0, -1.0, -1.0, -1.0]),
        row(episode=1, reward=0.0, actions=1, ref_logprobs=[-9.0, -2.0]),
        row(episode=2, reward=1.0, actions=1, ref_logprobs=[-9.0, -3.0], role="rejected"),
    ]
    answers = _Answers()
    answers.add(7, samples, 0.5)
    assert answers.nll == pytest.approx([1.0, 2.0])
    assert (answers.success, answers.places) == ([True, False], [(7, 0), (7, 1)])


def test_an_answer_at_the_border_has_not_succeeded() -> None:
    answers = _Answers()
    answers.add(0, [row(episode=0, reward=0.5, actions=1, ref_logprobs=[-1.0, -1.0])], 0.5)
    assert answers.success == [False]
