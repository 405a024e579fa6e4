from __future__ import annotations

from pathlib import Path

import pytest

from llmrl import tiny

MESSAGES = [{"role": "user", "content": "12+34="}]


@pytest.mark.parametrize(
    ("vocab", "text"),
    [("arithmetic", "12 + 34 = 46?\nyes"), ("text", "$\\frac{1}{2}$ costs 3 €, naïve “quotes”\n\t中文 🙂")],
)
def test_text_survives_tokens(vocab: tiny.Vocabulary, text: str) -> None:
    tokenizer = tiny.make_tokenizer(vocab)
    ids = tokenizer.encode(text)
    assert len(ids) == len(text.encode())
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text


def test_words_of_texts_are_tokens_and_others_are_bytes() -> None:
    """Each word with the blank before it; `é` is two bytes."""
    tokenizer = tiny.make_tokenizer(texts=["You are at position 1, 3.\n", "move down"])
    for text, count in (("move down", 2), ("You are at position 1, 3.\n", 9), ("é", 2)):
        ids = tokenizer.encode(text)
        assert (len(ids), tokenizer.decode(ids)) == (count, text)
    assert len(tokenizer.encode("wom")) == 3, "no word of the texts"
    assert tokenizer.get_vocab() == tiny.make_tokenizer(texts=["You are at position 1, 3.\n", "move down"]).get_vocab()


def test_arithmetic_does_not_know_other_characters() -> None:
    tokenizer = tiny.make_tokenizer("arithmetic")
    assert tokenizer.unk_token_id in tokenizer.encode("é")


def test_template_is_prefix_preserving() -> None:
    """The tokens that the policy read and sampled are a prefix of its next turn's prompt."""
    tokenizer = tiny.make_tokenizer()
    prompt = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
    sampled = [*tokenizer.encode("46"), tokenizer.eos_token_id]
    later = [*MESSAGES, {"role": "assistant", "content": "46"}, {"role": "tool", "content": "ok"}]
    again = tokenizer.apply_chat_template(later, add_generation_prompt=True, return_dict=False)
    assert again[: len(prompt) + len(sampled)] == prompt + sampled


def test_template_marks_what_the_assistant_said() -> None:
    tokenizer = tiny.make_tokenizer()
    said = tokenizer.apply_chat_template(
        [*MESSAGES, {"role": "assistant", "content": "46"}], return_assistant_tokens_mask=True, return_dict=True
    )
    marked = [t for t, on in zip(said["input_ids"], said["assistant_masks"], strict=True) if on]
    assert marked == [*tokenizer.encode("46"), tokenizer.eos_token_id]


def test_folder_loads_and_the_seed_decides_the_weights(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    state = torch.random.get_rng_state()
    folders = [tiny.make(tmp_path / str(i), hidden=64, layers=1, seed=seed) for i, seed in enumerate((0, 0, 1))]
    assert torch.equal(state, torch.random.get_rng_state())
    first, same, other = (AutoModelForCausalLM.from_pretrained(f).lm_head.weight for f in folders)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    tokenizer = AutoTokenizer.from_pretrained(folders[0])
    assert tokenizer.chat_template == tiny.CHAT_TEMPLATE
    assert len(tokenizer) == first.shape[0]
    generation = GenerationConfig.from_pretrained(folders[0])
    assert generation.eos_token_id == tokenizer.eos_token_id == 1
    assert generation.pad_token_id == tokenizer.pad_token_id == 0


def test_demo_size(tmp_path: Path) -> None:
    from safetensors import safe_open

    folder = tiny.make(tmp_path, vocab="arithmetic")
    with safe_open(folder / "model.safetensors", "pt") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.offset_keys()]
    size = sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes)
    assert 0.7e6 < size < 1.0e6
