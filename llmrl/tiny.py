"""A tokenizer and a randomly initialised language model from nothing: for the demo, the tests and the benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llmrl.run_folder.libraries import kept_apart

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen3Config

Vocabulary = Literal["arithmetic", "text"]
PAD, END, UNKNOWN = "<|pad|>", "<|end|>", "<|unknown|>"
ROLES = ("system", "user", "assistant", "tool")
MOST_TOKENS = 1024
# Each message is closed by the end token, so that a prompt plus what the policy sampled is a prefix of the next prompt.
# The generation block lets `apply_chat_template(return_assistant_tokens_mask=True)` mark the assistant's tokens.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message.role + '|>' -}}"
    "{%- if message.role == 'assistant' -%}"
    "{%- generation -%}{{- message.content + '<|end|>' -}}{%- endgeneration -%}"
    "{%- else -%}{{- message.content + '<|end|>' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


@kept_apart()
def make(
    folder: str | Path,
    *,
    vocab: Vocabulary = "text",
    texts: Sequence[str] = (),
    hidden: int = 128,
    layers: int = 4,
    heads: int | None = None,
    kv_heads: int | None = None,
    tie: bool = True,
    max_positions: int = 4096,
    seed: int = 0,
) -> Path:
    """Write a Hugging Face folder with a Qwen3 model of random float32 weights that Transformers and vLLM load.

    Args:
        folder: where to write; made if missing, files of the same names are replaced.
        vocab: `text` has a token for each of the 256 bytes and reads anything; `arithmetic` has the printable ASCII
            characters and the newline, everything else is unknown to it. Digits are always single tokens.
        texts: with `text`, their words become tokens besides, so that such texts are a fourth as long.
        hidden: width of the residual stream; the MLP is three times as wide.
        layers: number of decoder layers. 128 x 4 is 0.8M parameters, 64 x 2 is 0.1M, 512 x 8 is 25M.
        heads: attention heads; by default as many as leave 32 dimensions each (vLLM on CPUs takes multiples of 32).
        kv_heads: heads of keys and values; by default half as many, as in grouped-query attention.
        tie: the output layer shares the weights of the input embedding.
        max_positions: longest sequence in tokens.
        seed: of the weights; the caller's random state is left alone.
    Returns:
        The folder.
    """
    import torch
    from transformers import GenerationConfig, Qwen3ForCausalLM

    folder = Path(folder)
    tokenizer = make_tokenizer(vocab, texts)
    heads = heads or max(1, hidden // 32)
    config = _config(tokenizer, hidden, layers, heads, kv_heads or max(1, heads // 2), tie, max_positions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer(vocab: Vocabulary = "text", texts: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes, with special tokens for padding, the end of a message, and the roles.

    Without `texts` there are no merges; with them all merges inside their words, most frequent first, up to
    `MOST_TOKENS` tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    roles = [f"<|{role}|>" for role in ROLES]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab == "arithmetic":  # the byte alphabet writes printable ASCII as itself, the space and the newline shifted
        alphabet = [c for c in alphabet if "!" <= c <= "~" or c in "ĠĊ"]
    special = [PAD, END, UNKNOWN, *roles]
    tokens = {token: i for i, token in enumerate([*special, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=tokens, merges=[], unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=bool(texts))
    backend.decoder = decoders.ByteLevel()
    if texts:
        trainer = trainers.BpeTrainer(
            vocab_size=MOST_TOKENS,
            min_frequency=1,
            show_progress=False,
            special_tokens=special,
            initial_alphabet=alphabet,
        )
        backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=roles,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def _config(
    tokenizer: PreTrainedTokenizerFast,
    hidden: int,
    layers: int,
    heads: int,
    kv_heads: int,
    tie: bool,
    max_positions: int,
) -> Qwen3Config:
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=hidden // heads,
        max_position_embeddings=max_positions,
        tie_word_embeddings=tie,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
