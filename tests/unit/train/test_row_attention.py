from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from llmrl.critics.layers import head_of, layer
from llmrl.recipe import ModelOptions
from llmrl.train import row_attention
from llmrl.train.network import TokenScorer, ValueNetwork, load, load_decoder
from llmrl.train.row_attention import UnfitError
from llmrl.train.row_layout import RowLayout
from tests.rows import gaps, packed, padded, random_rows, said


def scorer(folder: Path, **options: Any) -> Any:
    return TokenScorer(load(ModelOptions(policy=str(folder), **options)))


@pytest.mark.parametrize(
    "options",
    [{}, {"use_peft": True}, {"dtype": "bfloat16"}, {"use_peft": True, "lora_target_modules": ["v_proj", "o_proj"]}],
    ids=["float32", "LoRA", "bfloat16", "LoRA on some"],
)
def test_log_probabilities_and_gradients_are_those_of_padded_rows(tiny_model_dir: Path, options: Any) -> None:
    net = scorer(tiny_model_dir, **options)
    for name, weight in net.named_parameters():
        if "lora_B" in name:  # which begins at 0
            nn.init.normal_(weight, std=0.1)
    wide = options.get("dtype") == "bfloat16"
    logprobs, gradient = gaps(net, random_rows(250))
    assert net.by_rows
    assert logprobs < (0.1 if wide else 1e-5)
    assert gradient < (0.1 if wide else 1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_long_own_parts_and_recomputed_layers_give_the_same(tiny_model_dir: Path, checkpointing: bool) -> None:
    net = TokenScorer(load(ModelOptions(policy=str(tiny_model_dir)), checkpointing=checkpointing)).train()
    rows = random_rows(250, (3, 90, 70, 5))
    logprobs, gradient = gaps(net, rows)
    calls = RowLayout.of(packed(rows)[0], packed(rows)[2]).calls
    assert {call.mask is None for call in calls} == {True, False}
    assert net.by_rows
    assert logprobs < 1e-5
    assert gradient < 1e-5


def test_numbers_of_every_head_are_those_of_padded_rows(tiny_model_dir: Path) -> None:
    trunk = load_decoder(ModelOptions(policy=str(tiny_model_dir)))
    specs: dict[str, Any] = {"v": {"name": "scalar"}, "a": {"name": "attention"}, "q": {"name": "vocabulary"}}
    net = ValueNetwork(trunk, {name: layer(head_of(spec), trunk, False) for name, spec in specs.items()}, specs)
    numbers, gradient = gaps(net, random_rows(250))
    assert net.by_rows
    assert numbers < 1e-5
    assert gradient < 1e-5


def test_other_attention_that_is_asked_for_is_kept(tiny_model_dir: Path) -> None:
    net = scorer(tiny_model_dir, attn_implementation="eager")
    assert not net.try_rows(torch.device("cpu"))
    assert net.model.config._attn_implementation == "eager"


def test_a_model_alone_is_read_as_before(tiny_model_dir: Path) -> None:
    net = scorer(tiny_model_dir)
    ids = torch.arange(10, 40)[None].expand(2, -1)
    mask = torch.ones_like(ids).index_fill(1, torch.tensor([0, 1]), 0)
    with torch.no_grad():
        before = net.model(input_ids=ids, attention_mask=mask).logits
        assert net.try_rows(torch.device("cpu"))
        assert torch.equal(net.model(input_ids=ids, attention_mask=mask).logits, before)


def test_a_row_alone_is_scored_to_the_last_bit_as_before(tiny_model_dir: Path) -> None:
    """Fingerprints of weights are hashes of such scores."""
    net = scorer(tiny_model_dir)
    (row, *_) = random_rows(250)
    before = said(net, padded([row]))
    assert net.try_rows(torch.device("cpu"))
    for ours, theirs in zip(said(net, padded([row])), before, strict=True):
        assert torch.equal(ours, theirs)


def test_the_way_of_reading_is_not_in_the_exported_config(tiny_model_dir: Path, tmp_path: Path) -> None:
    net = scorer(tiny_model_dir)
    assert net.try_rows(torch.device("cpu"))
    net.model.save_pretrained(tmp_path)
    assert row_attention.NAME not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({"softcap": 5.0}, "softcap"),
        ({"sliding_window": 4096}, "sliding_window"),
        ({"s_aux": torch.zeros(2)}, "s_aux"),
        ({"is_causal": False}, "not causal"),
        ({"attention_mask": torch.zeros(1, 1, 4, 4)}, "masks"),
    ],
)
def test_what_a_model_asks_of_attention_besides_is_never_left_out(fault: dict[str, Any], named: str) -> None:
    rows = RowLayout.of(torch.arange(4)[None], torch.zeros(1, 4, dtype=torch.long))
    q = torch.zeros(1, 2, 4, 8)
    with pytest.raises(UnfitError, match=named):
        row_attention.attend(nn.Module(), q, q, q, **{"attention_mask": None, "rows": rows, **fault})


def test_a_model_whose_rows_mix_is_found_out(tiny_model_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A layer that looks at the token before it, as convolutions and state spaces do."""
    net = scorer(tiny_model_dir)
    mlp: Any = net.model.model.layers[0].mlp
    forward = mlp.forward
    mlp.forward = lambda x: forward(x) + 0.1 * torch.nn.functional.pad(x[:, :-1], (0, 0, 1, 0))
    assert not net.try_rows(torch.device("cpu"))
    assert "differ from those of a row alone" in caplog.text
    assert net.model.config._attn_implementation == "sdpa"


def test_a_window_longer_than_the_trial_is_found_out(tmp_path: Path, tiny_model_dir: Path) -> None:
    net = scorer(tiny_model_dir)
    config: Any = net.model.config
    if not hasattr(config, "layer_types"):
        pytest.skip("a model without layers of several kinds")
    config.sliding_window, config.layer_types = 300, ["sliding_attention"] * config.num_hidden_layers
    net.model.model.has_sliding_layers = True
    assert not net.try_rows(torch.device("cpu"))
