"""Second turns under chat templates that keep history and such that rewrite it: those of TRL, and two unseen ones."""

from __future__ import annotations

import importlib.util
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.chat import Chat
from llmrl.errors import CheckpointError, DataError
from llmrl.rollout.history import histories
from llmrl.tiny import make_tokenizer
from tests.builders import some

TOKENIZER = make_tokenizer()
SHIPPED = Path(str((importlib.util.find_spec("trl") or pytest.fail("no trl")).origin)).parent / "chat_templates"
THINK = ("qwen3", "qwen3_training", "deepseek_r1_distill", "glm4moe")
TEN = (*THINK, "qwen2_5", "deepseekv3", "llama3_1", "phi3", "cohere", "gemma3")
KEEPS = (
    "{%- for m in messages -%}[{{ m.role }}]{{ m.content }}[/{{ m.role }}]\n{%- endfor -%}"
    "{%- if add_generation_prompt -%}[assistant]{%- endif -%}"
)
FORGETS = KEEPS.replace("{{ m.content }}", "{{ m.content if loop.last else m.content.split('</think>')[-1] }}")
TEMPLATES = {name: (SHIPPED / f"{name}.jinja").read_text(encoding="utf-8") for name in TEN}
REFUSED = {("gemma3", "tool"), ("cohere", "tool")}
TEMPLATES |= {"keeps": KEEPS, "forgets": FORGETS}
Conversation = list[dict[str, str]]


def chat_of(name: str, **options: Any) -> Chat:
    return Chat(TOKENIZER, chat_template_kwargs={"chat_template": TEMPLATES[name], **options})


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def played(chat: Chat, answers: list[str], replies: list[dict[str, str]]) -> list[tuple[list[int], Conversation, bool]]:
    """Each next prompt, the conversation in it, and whether it extends the last prompt and its answer."""
    conversation: Conversation = [{"role": "user", "content": "question"}]
    prompt, prompts = chat.prompt_ids(conversation), []
    for answer, reply in zip(answers, replies, strict=True):
        fed = [*prompt, *ids(answer)]
        conversation = [*conversation, {"role": "assistant", "content": answer}]
        prompt = chat.next_prompt(fed, conversation, [reply])
        conversation = [*conversation, reply]
        prompts.append((prompt, conversation, prompt[: len(fed)] == fed))
    return prompts


def answer_of(thinks: bool, text: str) -> str:
    return f"<think>\nwhy {text}\n</think>\n\n{text}" if thinks else text


@pytest.mark.parametrize(("name", "role", "thinks"), product(TEMPLATES, ("user", "tool"), (False, True)))
def test_each_prompt_is_the_templates_own_rendering(name: str, role: str, thinks: bool) -> None:
    chat = chat_of(name)
    answers = [answer_of(thinks, text) for text in ("one", "two", "three")]
    replies = [{"role": role, "content": text} for text in ("a", "b", "c")]
    if (name, role) in REFUSED:
        with pytest.raises(DataError, match="the chat template refuses"):
            played(chat, answers, replies)
    else:
        for prompt, conversation, _ in played(chat, answers, replies):
            assert prompt == chat.prompt_ids(conversation)


def test_what_each_template_does_is_told() -> None:
    assert set(histories(chat_of("keeps")).values()) == {"kept"}
    assert histories(chat_of("forgets")) == {
        "user": "kept",
        "user after reasoning": "rewritten",
        "tool": "kept",
        "tool after reasoning": "rewritten",
    }
    assert histories(chat_of("qwen3")) == {
        "user": "kept",
        "user after reasoning": "rewritten",
        "tool": "kept",
        "tool after reasoning": "kept",
    }
    assert set(histories(chat_of("qwen3", enable_thinking=False)).values()) == {"rewritten"}
    assert histories(chat_of("qwen3_training"))["user after reasoning"] == "kept"
    assert set(histories(chat_of("deepseek_r1_distill")).values()) == {"rewritten"}
    assert histories(chat_of("gemma3"))["tool"] == "refused"


def test_a_user_behind_tools_takes_their_reasoning_away() -> None:
    """Qwen3 keeps the reasoning before tools until a user speaks: then also that of earlier turns is removed."""
    chat = chat_of("qwen3")
    answers = [answer_of(True, "one"), answer_of(True, "two"), "three"]
    replies = [{"role": role, "content": "a"} for role in ("tool", "tool", "user")]
    prompts = played(chat, answers, replies)
    assert [extends for _, _, extends in prompts] == [True, True, False]
    assert "why" not in TOKENIZER.decode(prompts[-1][0])


def test_what_a_template_trims_of_an_answer_begins_no_sample() -> None:
    chat = chat_of("llama3_1")
    (prompt, conversation, extends), *_ = played(chat, [" one \n"], [{"role": "user", "content": "a"}])
    assert extends
    assert prompt != chat.prompt_ids(conversation)


def test_a_template_that_takes_no_reply_is_refused_at_the_start() -> None:
    deaf = "{%- if messages | length > 1 -%}{{ raise_exception('one message') }}{%- endif -%}[user]"
    with pytest.raises(CheckpointError, match=r"refuses every reply.*rollout.max_turns=1"):
        histories(Chat(TOKENIZER, chat_template_kwargs={"chat_template": deaf}))
    bare = make_tokenizer()
    bare.chat_template = None
    with pytest.raises(CheckpointError, match="no chat template"):
        histories(Chat(bare))


def test_what_was_sampled_is_never_encoded_again() -> None:
    """A template that keeps history extends whatever ids came before, also such that no text encodes to."""
    chat = chat_of("keeps")
    asked: Conversation = [{"role": "user", "content": "question"}]
    odd = [*chat.prompt_ids(asked), 200, 201, TOKENIZER.eos_token_id]
    prompt = chat.next_prompt(odd, [*asked, {"role": "assistant", "content": "??"}], [{"role": "user", "content": "b"}])
    assert prompt[: len(odd)] == odd
    assert TOKENIZER.decode(prompt[len(odd) :]) == "[/assistant][user]b[/user][assistant]"


def test_a_reply_cannot_forge_a_turn() -> None:
    for name in ("keeps", "forgets"):
        chat = chat_of(name)
        past = [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer_of(True, "a")}]
        fed = [*chat.prompt_ids(past[:1]), *ids(answer_of(True, "a"))]
        prompt = chat.next_prompt(fed, past, [{"role": "user", "content": "<|end|>"}])
        assert TOKENIZER.eos_token_id not in prompt


WORDS = st.text("abc \n{}[]<|end|>think/", min_size=1, max_size=12).map(lambda text: f"x{text}x")


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(("keeps", "forgets", "qwen2_5", "qwen3", "qwen3_training", "deepseek_r1_distill", "llama3_1")),
    turns=st.lists(st.tuples(WORDS, st.booleans(), st.sampled_from(("user", "tool")), WORDS), min_size=1, max_size=4),
)
def test_any_conversation_extends_or_is_the_templates_rendering(
    name: str, turns: list[tuple[str, bool, str, str]]
) -> None:
    chat = chat_of(name)
    answers = [answer_of(thinks, text.replace("think", "")) for text, thinks, _, _ in turns]
    replies = [{"role": role, "content": text} for _, _, role, text in turns]
    rewritten = False
    for prompt, conversation, extends in some(played(chat, answers, replies)):
        rendering = chat.prompt_ids(conversation)
        assert extends or prompt == rendering
        rewritten |= not extends
        if name == "keeps" or (not rewritten and name.startswith("qwen2")):
            assert extends
            assert prompt == rendering
