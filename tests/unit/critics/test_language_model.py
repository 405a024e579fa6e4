"""Heads of language models: logits are the model's own, whatever its architecture does behind its decoder."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from llmrl.critics.language_model import decoder_of, head_of, layer_norms, pretrained, vocabulary_of
from tests import architectures

SMALL: dict[str, Any] = {
    **architectures.SMALL,
    "vocab_size": 120,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "bos_token_id": 2,
}
EXPERTS = {"num_local_experts": 2, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 32}
WITH_MORE: dict[str, dict[str, Any]] = {
    **{name: {"final_logit_softcapping": 0.5} for name in ("gemma2", "gemma3_text", "nanochat", "vaultgemma")},
    **{name: {"logit_scale": 3.0} for name in ("cohere", "cohere2")},
    "cohere2_moe": {"logit_scale": 3.0, **EXPERTS},
    **{name: {"logits_scaling": 8.0} for name in ("granite", "granite_swa", "hyperclovax")},
    **{name: {"logits_scaling": 8.0, **EXPERTS} for name in ("granitemoe", "granitemoe_swa", "granitemoeshared")},
    "inkling_text": {"logits_mup_width_multiplier": 4.0, **EXPERTS},
    "recurrent_gemma": {"logits_soft_cap": 0.5},
    **{name: {"is_decoder": True} for name in ("bert", "roberta", "roformer", "megatron-bert")},
    "modernbert-decoder": {},
    "xlstm": {},
}
"""Architectures whose heads do more than a product, with options that make it show."""
PRODUCTS: dict[str, dict[str, Any]] = {name: {} for name in ("llama", "opt", "gpt2", "llama4_text", "phi")}
UNTRIED = {  # their options of the head are of the same names; they do not become small by options alone
    *("gemma3", "gemma3n", "gemma3n_text", "gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text"),
    *("granitemoehybrid", "cohere_compass_text", "falcon_h1", "mpt"),
}
WITHOUT_DEFAULTS = {"musicgen", "musicgen_melody"}  # of audio; their configurations ask for those of their parts
OF_HEAD = re.compile(r"(?<!attn_)(?<!router_)logits?_.*(cap|scal|width)|lm_head_multiplier")


def small(kind: str, **options: Any) -> Any:
    """A small configuration; of one of several parts its text part."""
    made: Any = CONFIG_MAPPING[kind]
    text = type(made().get_text_config())
    known = set(text().to_dict()) | set(getattr(text, "attribute_map", {}))
    return text(**{name: value for name, value in (SMALL | options).items() if name in known})


def model(kind: str, **options: Any) -> Any:
    """A model with random weights, large enough that logits are far from 0."""
    torch.manual_seed(0)
    made: Any = AutoModelForCausalLM.from_config(small(kind, **options)).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(4 if weight.dim() > 1 else 1)
    return made


@pytest.fixture(autouse=True)
def quiet() -> None:
    transformers.logging.set_verbosity_error()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("kind", "options"), [*WITH_MORE.items(), *PRODUCTS.items()], ids=[*WITH_MORE, *PRODUCTS])
@torch.no_grad()
def test_logits_of_states_are_the_models_own(kind: str, options: dict[str, Any]) -> None:
    policy = model(kind, **options)
    ids = torch.arange(5, 37)[None]
    states = decoder_of(policy)(input_ids=ids, use_cache=False).last_hidden_state[0]
    expected = policy(input_ids=ids, use_cache=False).logits[0]
    head = head_of(policy)
    assert torch.allclose(head(states), expected, atol=1e-5)
    assert torch.allclose(torch.cat([head(part) for part in states.split(5)]), expected, atol=1e-5), "in pieces"
    assert head(states[:0]).shape == (0, expected.shape[-1])
    if vocabulary_of(policy.config) == expected.shape[-1]:
        product = policy.get_output_embeddings()(states)
        more = product.shape != expected.shape or not torch.allclose(product, expected, atol=1e-3)
        assert more == (kind in WITH_MORE), "or the option that makes it show has another name"


def test_every_architecture_with_options_of_its_head_is_tried() -> None:
    found, unread = set(), set()
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        try:
            options = CONFIG_MAPPING[kind]().get_text_config().to_dict()
        except Exception:
            unread.add(kind)
            continue
        if any(OF_HEAD.search(name) for name in options):
            found.add(kind)
    assert found <= WITH_MORE.keys() | UNTRIED, "a new one: add it, with options that make its head show"
    assert found >= {"gemma2", "cohere", "granite", "recurrent_gemma"}, "options of heads are not seen any more"
    assert unread <= WITHOUT_DEFAULTS, "a new one: look at its options, and add it here if its head is a product"


def test_the_head_learns_and_hooks_stay_with_the_model() -> None:
    policy = model("gemma2", final_logit_softcapping=2.0)
    seen: list[int] = []
    policy.register_forward_hook(lambda *_: seen.append(1))
    states = torch.randn(3, 64, requires_grad=True)
    head_of(policy)(states).sum().backward()
    assert states.grad is not None
    assert policy.get_output_embeddings().weight.grad is not None
    assert not seen
    assert policy.model.training is False
    assert policy(input_ids=torch.tensor([[5, 6]])).logits.shape == (1, 2, 120), "the model is as it was"


@torch.no_grad()
def test_norms_of_layers_are_found_under_any_name() -> None:
    for kind in ("llama", "gpt2", "opt", "bert"):
        policy = model(kind, **WITH_MORE.get(kind, {}))
        norms = layer_norms(policy, partial(policy, input_ids=torch.tensor([[5, 6, 7]])))
        assert [len(layer) for layer in norms] == [3, 3], kind


def test_a_cap_of_attention_scores_is_not_left_out(tmp_path: Any) -> None:
    model("gemma2").save_pretrained(tmp_path)
    assert pretrained(AutoModelForCausalLM, str(tmp_path)).config._attn_implementation == "eager"
    with pytest.raises(ValueError, match=r"sdpa leaves out the cap of attention scores .*attn_logit_softcapping 50"):
        pretrained(AutoModelForCausalLM, str(tmp_path), attn_implementation="sdpa")
    model("llama").save_pretrained(tmp_path / "llama")
    assert pretrained(AutoModelForCausalLM, str(tmp_path / "llama")).config._attn_implementation == "sdpa"
