from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmrl.chat import Chat, load_tokenizer
from llmrl.errors import CheckpointError, DataError
from llmrl.reward_models.encoding import Encoded, Encoder
from llmrl.reward_models.rows import AnswerRow


@pytest.fixture(scope="module")
def chat(tiny_model_dir: Path) -> Chat:
    return Chat(load_tokenizer(tiny_model_dir))


def said(chat: Chat, encoded: Encoded) -> str:
    text: str = chat.tokenizer.decode(encoded.token_ids)
    return text


def at(chat: Chat, encoded: Encoded, places: Any) -> list[str]:
    return [chat.tokenizer.decode([encoded.token_ids[place]]) for place in places]


def test_the_prompt_is_the_policys_and_one_end_closes_it(chat: Chat) -> None:
    found = Encoder(chat)(AnswerRow(prompt="1+1=", response="2"))
    assert said(chat, found) == "<|user|>1+1=<|end|><|assistant|>2<|end|>"
    assert at(chat, found, found.response) == ["2", "<|end|>"]
    assert found.cut == 0
    messages = AnswerRow(prompt=[{"role": "system", "content": "Add."}, {"role": "user", "content": "1"}], response="2")
    assert said(chat, Encoder(chat)(messages)) == "<|system|>Add.<|end|><|user|>1<|end|><|assistant|>2<|end|>"


def test_the_end_of_sequence_is_there_once(chat: Chat) -> None:
    once = Encoder(chat)(AnswerRow(prompt="1", response="2"))
    assert Encoder(chat)(AnswerRow(prompt="1", response="2<|end|>")) == once


def test_text_never_becomes_a_special_token(chat: Chat) -> None:
    found = Encoder(chat)(AnswerRow(prompt="<|end|>", response="<|end|> <|user|>"))
    special = [token for token in found.token_ids if token in chat.tokenizer.all_special_ids]
    assert at(chat, Encoded(special, range(0), []), range(len(special))) == [
        "<|user|>",
        "<|end|>",
        "<|assistant|>",
        "<|end|>",
    ]


def test_a_score_stands_at_the_last_token_of_the_separator_behind_a_step(chat: Chat) -> None:
    encoder = Encoder(chat, separator="\n\n")
    found = encoder(AnswerRow(prompt="p", steps=["a\n\nb", "c"]))  # the separator inside a step ends nothing
    assert said(chat, found) == "<|user|>p<|end|><|assistant|>a\n\nb\n\nc\n\n<|end|>"
    body = list(found.response)
    assert [place - body[0] for place in found.step_ends] == [5, 8]
    assert at(chat, found, found.step_ends) == ["\n", "\n"]


def test_steps_are_encoded_one_by_one(chat: Chat) -> None:
    whole = Encoder(chat)(AnswerRow(prompt="p", steps=["aé", "b"]))
    first = Encoder(chat)(AnswerRow(prompt="p", steps=["aé"]))
    assert whole.token_ids[: whole.step_ends[0] + 1] == first.token_ids[: first.step_ends[0] + 1]


TEMPLATE = "<|user|>Q {{ prompt }}{% for one in principles %}\n- {{ one }}{% endfor %}<|end|>A {{ response }} !"


def test_a_template_of_ones_own_has_variables_and_its_own_special_tokens(chat: Chat) -> None:
    answer = AnswerRow(prompt="<|end|>?", response="yes", variables={"principles": ["kind", "<|user|>"]})
    found = Encoder(chat, TEMPLATE)(answer)
    assert said(chat, found) == "<|user|>Q <|end|>?\n- kind\n- <|user|><|end|>A yes !<|end|>"
    assert sum(token in chat.tokenizer.all_special_ids for token in found.token_ids) == 3
    assert at(chat, found, found.response) == ["y", "e", "s"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ prompt }}", "response in 0 places; expected"),
        ("{{ response }}{{ response }}", "response in 2 places"),
        ("{{ response | upper }}!", None),
        ("{{ principle }}{{ response }}", "'principle' is undefined; the answer has .*principles, prompt"),
        ("{{ response", "line 1: unexpected end of template"),
        ("{{ ''.__class__.__mro__ }}{{ response }}", "unsafe"),
    ],
)
def test_templates_that_cannot_be_read(template: str, message: str | None, chat: Chat) -> None:
    answer = AnswerRow(prompt="p", response="r", variables={"principles": []})
    if message is None:
        Encoder(chat, template)(answer)
        return
    with pytest.raises(DataError, match=message):
        Encoder(chat, template)(answer)


def test_what_is_too_long_loses_its_beginning_and_says_so(chat: Chat) -> None:
    answer = AnswerRow(prompt="0123456789", steps=["ab", "cd"])
    whole = Encoder(chat)(answer)
    short = Encoder(chat, max_length=5)(answer)
    assert short.token_ids == whole.token_ids[-5:]
    assert short.cut == len(whole.token_ids) - 5
    assert short.step_ends == [0, 3]
    assert Encoder(chat, max_length=4)(answer).step_ends[0] < 0
    assert Encoder(chat, max_length=4)(answer).response.start < 0


def test_a_separator_that_is_nothing(chat: Chat) -> None:
    with pytest.raises(CheckpointError, match="the separator '' is no token"):
        Encoder(chat, separator="")(AnswerRow(prompt="p", steps=["a"]))
