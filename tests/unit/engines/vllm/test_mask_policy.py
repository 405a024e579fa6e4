from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from llmrl.engines.vllm.mask_policy import MaskPolicy


@pytest.fixture
def network() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    return LlamaForCausalLM(config).eval()


def whole(network: Any, tokens: list[int]) -> Tensor:
    with torch.inference_mode():
        last: Tensor = network(torch.tensor([tokens])).logits[0, -1]
    return last


def test_sequences_that_come_grow_stop_and_return_are_read_as_a_whole(network: Any) -> None:
    policy = MaskPolicy(network)
    one, two, three = [3, 4, 5], [7], [9, 8, 7, 6, 5, 4]
    steps = [
        {"one": one, "two": two},
        {"one": [*one, 11], "two": [*two, 12]},
        {"two": [*two, 12, 13], "three": three},  # one left, another came
        {"two": [*two, 12, 13], "three": [*three, 14]},  # the same position again
        {"one": [*one, 11, 15, 16], "three": [*three, 14, 17]},  # back, with more than it had
        {"three": three},  # shorter than it was: another sequence of that name
        {},
        {"three": [*three, 1]},
    ]
    for step in steps:
        found = policy.logits(step)
        assert found.keys() == step.keys()
        for name, tokens in step.items():
            torch.testing.assert_close(found[name], whole(network, tokens), rtol=0, atol=1e-6, msg=name)


def test_what_was_read_is_read_once(network: Any) -> None:
    policy, widths = MaskPolicy(network), []
    network.register_forward_pre_hook(
        lambda _module, _given, named: widths.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    policy.logits({"a": [1, 2, 3], "b": [4]})
    policy.logits({"a": [1, 2, 3, 4], "b": [4, 5]})
    policy.logits({"b": [4, 5, 6]})
    policy.logits({"b": [4, 5, 6, 7], "c": [1, 2]})
    assert widths == [(2, 3), (2, 1), (1, 1), (1, 1), (1, 2)]


def test_new_weights_are_those_of_every_token(network: Any) -> None:
    policy, before = MaskPolicy(network), whole(network, [1, 2, 3])
    policy.logits({"a": [1, 2]})
    given = [(name, weight.detach() + 0.1) for name, weight in network.named_parameters()]
    assert [name for name, _ in policy.following(iter(given))] == [name for name, _ in given]
    (found,) = policy.logits({"a": [1, 2, 3]}).values()
    torch.testing.assert_close(found, whole(network, [1, 2, 3]), rtol=0, atol=1e-6)
    assert not torch.allclose(found, before)
