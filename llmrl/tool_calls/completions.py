"""Read a completion's tokens: its text with special tokens, and the tool calls in it."""

from __future__ import annotations

from collections.abc import Sequence

from llmrl.chat import Chat
from llmrl.tool_calls.forms import Parsed, form_of, read_calls


def spelled(chat: Chat, token_ids: Sequence[int]) -> str:
    """Decode tokens to text with special tokens, which tool calls need, but for those at its end."""
    ids, ends = list(token_ids), set(chat.tokenizer.all_special_ids)
    while ids and ids[-1] in ends:
        ids.pop()
    text: str = chat.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def parsed(chat: Chat, token_ids: Sequence[int]) -> Parsed:
    """Read a completion with its tool calls, in the form that the chat template writes them."""
    template = chat.chat_template_kwargs.get("chat_template") or chat.tokenizer.chat_template
    completion = read_calls(spelled(chat, token_ids), form_of(str(template or "")))
    return completion if completion.calls or completion.error else Parsed(chat.text(token_ids))
