"""Treatment of earlier turns by a chat template: a probe, before the first episode."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

from llmrl.chat import PAST_REPLY, Chat
from llmrl.errors import CheckpointError, DataError
from llmrl.types import Message

log = logging.getLogger(__name__)

History = Literal["kept", "rewritten", "refused"]
"""Earlier turns, once a reply has come: as they were fed and sampled, in other tokens, or refused with the reply."""
ANSWERS = {"": "reply", " after reasoning": PAST_REPLY}


def histories(chat: Chat) -> dict[str, History]:
    """Probe replies of users and tools to plain answers and to such with reasoning: `user`, `tool after reasoning` ...

    Where history is kept, an episode is one sample. Where it is rewritten, each turn begins a sample of its own, with
    the prompt that the template makes of the whole conversation.

    Raises:
        CheckpointError: the template refuses all of them, or there is none: no episode can have a second turn.
    """
    found = {
        f"{role}{kind}": _history(chat, role, answer) for role in ("user", "tool") for kind, answer in ANSWERS.items()
    }
    if set(found.values()) == {"refused"}:
        raise CheckpointError(
            "the chat template refuses every reply to an answer, by a user or a tool, which a second turn needs; set "
            "rollout.max_turns=1, or save the tokenizer with a template that takes replies"
        )
    return found


def _history(chat: Chat, role: str, answer: str) -> History:
    asked: list[Message] = [{"role": "user", "content": "question"}]
    past = [*asked, {"role": "assistant", "content": answer}]
    fed = [*chat.prompt_ids(asked), *chat.tokenizer(answer, add_special_tokens=False)["input_ids"]]
    try:
        prompt = chat.next_prompt(fed, past, [{"role": role, "content": "answer"}])
    except DataError:
        return "refused"
    return "kept" if prompt[: len(fed)] == fed else "rewritten"


def warn_of_rewriting(found: Mapping[str, History], main: bool) -> None:
    """Warn of replies behind which the chat template rewrites earlier turns: they cost samples and tokens."""
    rewritten = [reply for reply, history in found.items() if history == "rewritten"]
    if rewritten and main:
        log.warning(
            "the chat template rewrites earlier turns behind replies of: %s. Each such turn begins a sample, which "
            "costs tokens; a template that only appends makes an episode one sample (docs/turns.md)",
            ", ".join(rewritten),
        )
