"""A network reads the rows of a batch without noise, and each for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config

from llmrl.recipe import ModelOptions
from llmrl.train.network import TokenScorer, load
from tests.rows import packed


def test_a_policy_that_learns_has_no_dropout(tmp_path: Path) -> None:
    """Dropout of a layer, and that of attention, which is an option."""
    config = GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=50, resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).resid_pdrop == 0.5
    model: Any = load(ModelOptions(policy=str(tmp_path))).train()
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)


def test_a_decoder_is_told_the_positions_of_packed_rows(tiny_model_dir: Path) -> None:
    """States of the second row are those that it has alone."""
    net = TokenScorer(load(ModelOptions(policy=str(tiny_model_dir))))
    rows = [torch.tensor([11, 12, 13]), torch.tensor([21, 22])]
    with torch.no_grad():
        together = net.states(*packed(rows))
        alone = torch.cat([net.states(*packed([row])) for row in rows], dim=1)
    assert torch.allclose(together, alone, atol=1e-5)
