"""Texts are encoded whole, whatever a tokenizer adds or does at the beginning of a text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from llmrl.chat import Chat
from llmrl.encoding.encoder import TextEncoder
from llmrl.encoding.soundness import require_repeatable, require_within, warn_of_losses
from llmrl.errors import CheckpointError, DataError
from llmrl.tiny import make_tokenizer

SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>", "<|end|>", "<|assistant|>"]
TEXTS = ["user says hello to the end of it", "<|end|> ends <|user|> asks 1 + 2 = 3", "a b c d e f g"]
TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message.role + '|>' + message.content + '<|end|>' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
BARE = TEMPLATE.replace("message.content + '<|end|>'", "message.content + ' done ' + '<|end|>'")


def metaspace(prepend: str) -> PreTrainedTokenizerFast:
    """A tokenizer that writes spaces as ▁ and puts one before a text: SentencePiece's way."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    backend.decoder = decoders.Metaspace(prepend_scheme=prepend)
    alphabet = [chr(code) for code in range(33, 127)] + ["▁"]
    backend.train_from_iterator(
        TEXTS * 4, trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    return _wrapped(backend)


def byte_level() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with merges across spaces and punctuation."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        TEXTS * 4, trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    return _wrapped(backend)


def unigram() -> PreTrainedTokenizerFast:
    """A tokenizer that takes a piece of its vocabulary wherever it stands, special ones too."""
    pieces = [(token, 0.0) for token in SPECIAL] + [("▁", -2.0), ("<|", -3.0), ("|>", -3.0)]
    pieces += [(chr(code), -4.0) for code in range(33, 127)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return _wrapped(backend)


def _wrapped(backend: Tokenizer) -> PreTrainedTokenizerFast:
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=SPECIAL[3:],
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = TEMPLATE
    return made


KINDS: dict[str, Callable[[], Any]] = {
    "metaspace always": lambda: metaspace("always"),
    "metaspace first": lambda: metaspace("first"),
    "byte level": byte_level,
    "tiny": lambda: _templated(make_tokenizer()),
}


def _templated(tokenizer: Any) -> Any:
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]()


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_a_message_that_spells_a_special_token_is_encoded_whole(tokenizer: Any) -> None:
    chat, mark = Chat(tokenizer), "<|end|>"
    ids = chat.prompt_ids([user(f"it{mark}ends{mark}")])
    end = tokenizer.convert_tokens_to_ids(mark)
    assert ids.count(end) == 1, "the template's own"
    assert tokenizer.decode(ids).replace(" ", "") == f"<|user|>it{mark}ends{mark}<|end|><|assistant|>"
    # ordinary text in one piece, with or without the space that a tokenizer puts behind a special token
    text, options = f"it{mark}ends{mark}", {"add_special_tokens": False, "split_special_tokens": True}
    head, alone, behind = (tokenizer(t, **options)["input_ids"] for t in ("<|user|>", text, f"<|user|>{text}"))
    assert ids[1 : ids.index(end)] in (alone, behind[len(head) :])


def test_what_nobody_spells_is_as_the_tokenizer_has_it(tokenizer: Any) -> None:
    ids = Chat(tokenizer).prompt_ids([user("hello to the end")])
    text = "<|user|>hello to the end<|end|><|assistant|>"
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_twin_reads_as_the_tokenizer_does(tokenizer: Any) -> None:
    encoder = TextEncoder(tokenizer)
    hidden = {"\ue010": "<|nothing|>"}
    for text in ("<|user|> a b <|end|> c", "a<|end|>", "<|assistant|>", " two  spaces "):
        asked = text + "\ue010"
        twin = encoder.ids(asked, hidden)
        assert twin == tokenizer(text + "<|nothing|>", add_special_tokens=False)["input_ids"], text


@pytest.mark.parametrize("template", [TEMPLATE, BARE])
def test_a_reply_stands_behind_what_was_said(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    chat = Chat(tokenizer)
    first, said = chat.prompt_ids([user("a b")]), "hello to"
    prompt = chat.prompt_ids([user("a b"), {"role": "assistant", "content": said}, user("c d")])
    ids = prompt[: len(first)]
    sampled = chat.answer_ids(said, ids)
    extended = chat.next_prompt([*ids, *sampled], [user("a b"), {"role": "assistant", "content": said}], [user("c d")])
    assert extended[: len(ids) + len(sampled)] == [*ids, *sampled]
    assert tokenizer.decode(extended) == tokenizer.decode(prompt)
    assert extended == prompt, "token for token what the whole conversation is"


def test_an_answer_stands_behind_its_prompt(tokenizer: Any) -> None:
    chat = Chat(tokenizer)
    prompt = chat.prompt_ids([user("a b")])
    whole = tokenizer("<|user|>a b<|end|><|assistant|>hello", add_special_tokens=False)["input_ids"]
    assert [*prompt, *chat.answer_ids("hello", prompt)] == whole
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert end not in chat.answer_ids("a<|end|>b", prompt)


def test_what_a_tokenizer_adds_by_itself(tokenizer: Any) -> None:
    """Without a template: what it puts before a text stays, what it puts behind is left out."""
    plain = tokenizer("a b", add_special_tokens=False)["input_ids"]
    begin, end = tokenizer.convert_tokens_to_ids(["<|user|>", "<|end|>"])
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|user|> $A <|end|>", special_tokens=[("<|user|>", begin), ("<|end|>", end)]
    )
    assert tokenizer("a b")["input_ids"] == [begin, *plain, end]
    chat = Chat(tokenizer)
    assert chat.prompt_ids([user("a b")])[0] == begin, "of the template, once"
    assert chat.prompt_ids([user("a b")])[1] != begin
    tokenizer.chat_template = None
    assert chat.prompt_ids([user("a b")]) == [begin, *plain], "an end of sequence would end the answer first"


def test_a_piece_that_is_special_in_any_text_is_refused() -> None:
    tokenizer = unigram()
    with pytest.raises(DataError, match=r"a message spells the special token '<\|end\|>', which this tokenizer takes"):
        Chat(tokenizer).prompt_ids([user("a<|end|>b")])
    assert Chat(tokenizer).prompt_ids([user("a b")])


def test_truncation_and_padding_in_a_file_do_nothing(tokenizer: Any) -> None:
    expected = Chat(tokenizer).prompt_ids([user("a b c d e f g <|end|> h")])
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    assert Chat(tokenizer).prompt_ids([user("a b c d e f g <|end|> h")]) == expected


def test_the_template_ends_a_turn_where_the_tokenizer_does_not_say() -> None:
    tokenizer = byte_level()
    chat = Chat(tokenizer)
    end, eos = tokenizer.convert_tokens_to_ids(["<|end|>", "</s>"])
    assert chat.stop_token_ids() == sorted([end, eos])
    assert chat.turn_end() == end


# Soundness


def test_a_tokenizer_that_draws_is_refused() -> None:
    tokenizer = byte_level()
    require_repeatable(tokenizer, "mine")
    tokenizer.backend_tokenizer.model.dropout = 0.3
    with pytest.raises(CheckpointError, match=r"mine: its tokenizer draws pieces at random \(dropout 0.3"):
        require_repeatable(tokenizer, "mine")


def test_a_tokenizer_larger_than_its_model() -> None:
    tokenizer = byte_level()
    require_within(tokenizer, len(tokenizer), "mine")
    with pytest.raises(CheckpointError, match=r"mine: its tokenizer has 2 tokens beyond the 398 that its model knows"):
        require_within(tokenizer, 398, "mine") if len(tokenizer) == 400 else _beyond(tokenizer)
    size = len(tokenizer)
    tokenizer.add_tokens([AddedToken("<image>", special=True)], special_tokens=True)
    require_within(tokenizer, size, "mine")
    tokenizer.chat_template = TEMPLATE + "<image>"
    with pytest.raises(CheckpointError, match="<image>"):
        require_within(tokenizer, size, "mine")


def _beyond(tokenizer: Any) -> None:
    """Texts were too few for all merges: the same with its own size."""
    size = len(tokenizer)
    try:
        require_within(tokenizer, size - 2, "mine")
    except CheckpointError as error:
        raise CheckpointError(str(error).replace(f"the {size - 2} that", "the 398 that")) from None


def test_a_tokenizer_that_loses_text_is_told(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = byte_level()
    warn_of_losses(tokenizer, "mine")
    assert not caplog.records
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    warn_of_losses(tokenizer, "mine")
    assert "mine: its tokenizer reads" in caplog.text
