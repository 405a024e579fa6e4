"""Render conversations by a tokenizer's chat template, in the bounded process of `llmrl.sandbox.rendering`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from llmrl.datafiles.images import MARK
from llmrl.datafiles.messages import with_texts
from llmrl.errors import DataError
from llmrl.sandbox.rendering import TemplateRefusal, rendered
from llmrl.types import Message

PROBE = "question"


def render(
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    tools: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
) -> Sequence[str]:
    """Texts of conversations by the tokenizer's template, with its options.

    Messages with pictures have their content in parts, as templates that know pictures want it; where a template wants
    all content in parts, and drops texts, all is.

    Raises:
        DataError: the template refuses a conversation, or takes more memory, time or text than is allowed.
    """
    plain = [with_texts(conversation) for conversation in conversations]
    schemas = [dict(tool) for tool in tools] or None
    options = dict(options)
    try:
        if _has_own_rendering(tokenizer):
            return [
                tokenizer.apply_chat_template([_shown(m, False) for m in one], tools=schemas, tokenize=False, **options)
                for one in plain
            ]
        template = tokenizer.get_chat_template(options.pop("chat_template", None), schemas)
        special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
        in_parts = _wants_parts(template, tuple(special.items()))
        shown = [[_shown(message, in_parts) for message in one] for one in plain]
        return rendered("the chat template", _apply, template, shown, schemas, special | options)
    except TemplateRefusal as refusal:
        roles = ", ".join(str(message.get("role")) for message in plain[0])
        raise DataError(f"the chat template refuses messages of the roles {roles}: {refusal}") from None


def _shown(message: Message, in_parts: bool) -> dict[str, Any]:
    """The message as a template gets it."""
    given = {name: value for name, value in message.items() if name != "images"}
    if not message.get("images") and not in_parts:
        return given
    pieces = [piece for piece in re.split(f"({MARK})", str(message.get("content") or "")) if piece]
    seen = bool(message.get("images"))
    return given | {
        "content": [
            {"type": "image"} if seen and piece == MARK else {"type": "text", "text": piece} for piece in pieces
        ]
    }


@lru_cache(maxsize=64)
def _wants_parts(template: str, special: tuple[tuple[str, str], ...]) -> bool:
    """True for a template that drops content which is a text, and writes it in parts."""
    parts = [{"type": "text", "text": PROBE}]
    written = []
    for content in (PROBE, parts):
        asked = [[{"role": "user", "content": content}]]
        try:
            (text,) = rendered("the chat template", _apply, template, asked, None, dict(special))
        except (TemplateRefusal, DataError):
            text = ""
        written.append(PROBE in text and "{" not in text)  # a list that is printed is no text either
    return written == [False, True]


def _apply(
    template: str, conversations: list[list[dict[str, Any]]], tools: Any, options: Mapping[str, Any]
) -> Sequence[str]:
    """Apply a chat template as `apply_chat_template` does; it runs in the process of `llmrl.sandbox.rendering`."""
    from transformers.utils.chat_template_utils import render_jinja_template

    texts: Sequence[str] = render_jinja_template(
        conversations=conversations, tools=tools, chat_template=template, **options
    )[0]
    return texts


def _has_own_rendering(tokenizer: Any) -> bool:
    """True for tokenizers that render without a template: code of their authors, such as Mistral's."""
    from transformers import PreTrainedTokenizerBase

    return type(tokenizer).apply_chat_template is not PreTrainedTokenizerBase.apply_chat_template
