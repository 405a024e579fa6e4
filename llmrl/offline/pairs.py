"""Formats of preferences: two answers after one beginning, of which the better is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llmrl.datafiles.rows import LeftOutError, Row
from llmrl.errors import DataError
from llmrl.offline.example import (
    ASSISTANT,
    Example,
    answered,
    conversation,
    dialogue,
    is_message,
    numbers_of,
    reward_of,
)
from llmrl.types import Message, Role, Score

SIDES: tuple[Role, Role] = ("chosen", "rejected")
RATED = ("q_{}", "score_{}", "{}_score", "{}_reward")
"""Columns with a number of each side."""
SPEAKER = re.compile(r"\n\n(Human|Assistant):")
SPEAKERS = {"Human": "user", "Assistant": ASSISTANT}


def preference(row: Row) -> list[Example]:
    """Read TRL's preference columns, with `prompt` or with a beginning that both sides share; HH-RLHF's texts, too.

    A side's reward is its `q_chosen`, `score_chosen` or the like, else 1 for the chosen and 0 for the rejected.
    """
    chosen, rejected = (_said(row.values.get(side)) for side in SIDES)
    prompt = row.values.get("prompt")
    if prompt is None:
        prompt, chosen, rejected = _implicit(chosen, rejected, row)
    return [_side(side, prompt, answer, row) for side, answer in zip(SIDES, _differ(chosen, rejected), strict=True)]


def step_pair(row: Row) -> list[Example]:
    """Read two steps after one prefix: `prefix` holds the prompt and the steps they share, as text or as messages.

    Where a `prompt` stands beside it, or the last message of `prefix` is the assistant's, the answer begins with it.
    Only a step whose `kind` is `solution` ends the answer: a token that ends it would teach to stop behind every step.
    """
    prefix, prompt = row.values.get("prefix"), row.values.get("prompt")
    begun = prefix if prompt is not None else ""
    asked = conversation(prefix if prompt is None else prompt, "user", row)
    if asked[-1]["role"] == ASSISTANT:
        begun, asked = asked[-1]["content"], asked[:-1]
    if not isinstance(begun, str):
        raise DataError(f"{row.where}: `prefix` beside a `prompt` holds {begun!r:.60}; expected text")
    sides = _differ(*(row.values.get(side) for side in SIDES))
    ends = row.values.get("kind") == "solution"
    return [
        replace(_side(side, asked, answer, row, begun), ends=ends, sampled=_sampled(side, row))
        for side, answer in zip(SIDES, sides, strict=True)
    ]


def segments(row: Row) -> list[Example]:
    """Read two segments of turns (`state`, `action`), and `label`: 1 if the second is better, 0 the first, 0.5 a tie.

    The label stays among the numbers as `preferred`, the better side's share: 1, or 0.5 of a tie.
    """
    label = row.values.get("label")
    if not isinstance(label, int | float) or not 0 <= label <= 1:
        raise DataError(f"{row.where}: column 'label' holds {label!r:.60}; expected 0 to 1")
    better = (
        [row.values.get("seg2"), row.values.get("seg1")]
        if label >= 0.5
        else [row.values.get("seg1"), row.values.get("seg2")]
    )
    numbers = {**numbers_of(row, "label"), "preferred": max(float(label), 1.0 - label)}
    made = []
    for side, segment in zip(SIDES, better, strict=True):
        said = [message for turn in _turns(segment, row) for message in turn]
        score = Score(numbers["preferred"] if side == "chosen" else 1.0 - numbers["preferred"])
        start = next(i for i, message in enumerate(said) if message["role"] == ASSISTANT)
        made.append(dialogue(said, start, row, score=score, role=side, numbers=numbers))
    return made


def _sampled(side: Role, row: Row) -> tuple[list[int], list[int]] | None:
    """Tokens of the prefix and of a side; None where the row does not have them."""
    before, step = row.values.get("prefix_ids"), row.values.get(f"{side}_ids")
    if before is None or step is None:
        return None
    for name, ids in (("prefix_ids", before), (f"{side}_ids", step)):
        if not isinstance(ids, list) or not all(type(token) is int and 0 <= token < 1 << 31 for token in ids):
            raise DataError(f"{row.where}: column {name!r} holds {ids!r:.60}; expected a list of token ids")
    return before, step


def _side(side: Role, prompt: Any, answer: Any, row: Row, prefix: str = "") -> Example:
    rated = reward_of(row, *(name.format(side) for name in RATED))
    reward = float(side == "chosen") if rated is None else rated
    numbers = numbers_of(row, *(name.format(side) for name in RATED for side in SIDES))
    return answered(prompt, answer, row, score=Score(reward), role=side, numbers=numbers, prefix=prefix)


def _differ(chosen: Any, rejected: Any) -> tuple[Any, Any]:
    """Both sides, where they are not the same."""
    words = [side.split() if isinstance(side, str) else side for side in (chosen, rejected)]
    if words[0] == words[1]:
        raise LeftOutError("chosen equals rejected")
    return chosen, rejected


def _said(side: Any) -> Any:
    """A transcript of `Human:` and `Assistant:`, which HH-RLHF has, as messages; anything else as it is."""
    if not isinstance(side, str) or not SPEAKER.match(side):
        return side
    parts = SPEAKER.split(side)[1:]
    said: list[Message] = []
    for speaker, text in zip(parts[::2], parts[1::2], strict=True):
        role, content = SPEAKERS[speaker], text.strip()
        if said and said[-1]["role"] == role:  # some transcripts name a speaker twice
            content = f"{said.pop()['content']}\n\n{content}"
        said.append({"role": role, "content": content})
    return said


def _implicit(chosen: Any, rejected: Any, row: Row) -> tuple[Any, Any, Any]:
    """The beginning that both sides share, and the rest of each."""
    if isinstance(chosen, str) and isinstance(rejected, str):
        shared = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
        cut = chosen.rfind(" ", 0, len(min(chosen, rejected, key=len)) if shared is None else shared)
        if cut <= 0:
            raise LeftOutError("no shared prompt")
        return chosen[:cut], chosen[cut:], rejected[cut:]
    if not all(isinstance(side, list) and all(map(is_message, side)) for side in (chosen, rejected)):
        raise DataError(
            f"{row.where}: expected `chosen` and `rejected`, both texts or both lists of messages; found "
            f"{chosen!r:.40} and {rejected!r:.40}"
        )
    cut = _shared(chosen, rejected)
    if not cut:
        raise LeftOutError("no shared prompt")
    return chosen[:cut], chosen[cut:], rejected[cut:]


def _shared(chosen: Sequence[Message], rejected: Sequence[Message]) -> int:
    """Messages that both begin with, up to where the assistant's answer begins."""
    pairs = list(zip(chosen, rejected, strict=False))
    cut = next((i for i, (a, b) in enumerate(pairs) if a != b), max(0, len(pairs) - 1))
    while cut and not all(len(side) > cut and side[cut]["role"] == ASSISTANT for side in (chosen, rejected)):
        cut -= 1
    return cut


def _turns(segment: Any, row: Row) -> list[list[Message]]:
    """Turns of a segment, each a state (text or messages) and an action (text)."""
    if not isinstance(segment, list) or not segment:
        raise DataError(f"{row.where}: a segment holds {segment!r:.60}; expected a list of (state, action)")
    made = []
    for turn in segment:
        state, action = (turn.get("state"), turn.get("action")) if isinstance(turn, dict) else (*turn, None, None)[:2]
        made.append([*conversation(state, "user", row), *conversation(action, ASSISTANT, row)])
    return made
