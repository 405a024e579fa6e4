"""Numbers out of vLLM's answers are those of the tokens that were sampled, or are refused."""

from __future__ import annotations

from array import array
from types import SimpleNamespace

import pytest

from llmrl.engines.vllm import nucleus
from llmrl.engines.vllm.outputs import kept_ids, sampled_logprobs
from llmrl.errors import EngineError

TWO_EACH = SimpleNamespace(start_indices=[0, 2], token_ids=[5, 9, 6, 1], logprobs=[-0.5, -1.0, -2.0, -4.0])
"""Two positions; the first of each is what was sampled."""


def test_log_probabilities_are_those_of_sampled_tokens() -> None:
    assert sampled_logprobs(TWO_EACH, [5, 6]).tolist() == [-0.5, -2.0]


@pytest.mark.parametrize("ids", [[5, 9], [5], [5, 6, 1]])
def test_log_probabilities_of_other_tokens_are_refused(ids: list[int]) -> None:
    with pytest.raises(EngineError, match="log-probabilities for"):
        sampled_logprobs(TWO_EACH, ids)


def test_kept_ids_are_those_of_the_first_tokens() -> None:
    """Draws behind the end of the completion are left out."""
    drawn = [array("i", [1, 2]), array("i", [3, 4]), array("i", [5, 6])]
    asked = {nucleus.OPTION: ["request"]}
    nucleus._taken["request"] = dict(enumerate(drawn))
    assert kept_ids(asked, [2, 3]) == drawn[:2]
    nucleus._taken["request"] = dict(enumerate(drawn))
    with pytest.raises(EngineError, match="outside its own"):
        kept_ids(asked, [2, 5])
