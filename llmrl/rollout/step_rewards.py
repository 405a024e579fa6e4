"""Rewards of reasoning steps, known by characters, at the tokens that end them."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from llmrl.chat import Chat
from llmrl.errors import RewardError
from llmrl.types import Score, Trajectory

WINDOW = 32  # tokens that are decoded at a time
UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what a decoder makes of the first bytes of a character


def placed(trajectory: Trajectory, score: Score, chat: Chat) -> Score:
    """The score with the rewards of its steps at the last token of each, added to its `token_rewards`, an array.

    Steps without `step_ends` are scores to look at and no rewards.

    Raises:
        RewardError: rewards of more or fewer tokens or steps than there are, or of a place that is not in the text.
    """
    if score.value is None:
        return score
    token_ids = [] if trajectory.last is None else trajectory.last.completion.token_ids
    where = f"problem {trajectory.problem.id}: the reward"
    if score.token_rewards is not None and len(score.token_rewards) != len(token_ids):
        raise RewardError(
            f"{where} gave {len(score.token_rewards)} token rewards; the last completion has {len(token_ids)} tokens"
        )
    dense = None if score.token_rewards is None else array("d", score.token_rewards)
    if score.steps is None or score.step_ends is None:
        return replace(score, token_rewards=dense)
    if len(score.steps) != len(score.step_ends):
        raise RewardError(f"{where} gave {len(score.steps)} steps and {len(score.step_ends)} ends; expected one each")
    bounds, length = [0, *score.step_ends], len(chat.text(token_ids))
    if bounds != sorted(bounds) or bounds[-1] > length or (score.steps and not token_ids):
        raise RewardError(
            f"{where} ends steps at {list(score.step_ends)[:8]}; expected ascending places in a text of {length} "
            "characters"
        )
    dense = dense or array("d", [0.0]) * len(token_ids)
    for token, reward in zip(last_tokens(chat, token_ids, score.step_ends), score.steps, strict=True):
        dense[token] += reward
    return replace(score, token_rewards=dense)


def last_tokens(chat: Chat, token_ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    """The last token of each stretch of `chat.text(token_ids)`.

    Args:
        token_ids: of a completion.
        ends: where the stretches end, in characters, ascending; each begins where the one before it ends.
    Returns:
        For each end an index into `token_ids`. A character of several tokens is complete with the last of them. A token
        across an end belongs to the stretch in which it ends; a stretch in which none ends has that token too.
    """
    text = _DecodedText(chat, token_ids)
    tokens = []
    for begin, end in pairwise([0, *ends]):
        last = text.by(end)
        if text.after(last) > end and text.after(last - 1) > begin:
            last -= 1
            while text.after(last - 1) == text.after(last):  # tokens without text, or half a character
                last -= 1
        tokens.append(last)
    return tokens


class _DecodedText:
    """Counts the characters that are complete after each token, without decoding the whole text each time.

    The tokens before `_first` decode to exactly the characters before `_base`, so only the rest is decoded. Where that
    gives other characters than the text has (a dropped space, bytes that are no UTF-8), all tokens are decoded.
    """

    def __init__(self, chat: Chat, token_ids: Sequence[int]) -> None:
        self._chat, self._ids = chat, token_ids
        self._whole = chat.text(token_ids)
        self._first = self._base = 0

    def by(self, end: int) -> int:
        """The first token with which `end` characters are complete; to be asked with ends that never fall."""
        while self._advance(end):
            pass
        low, step = self._first, WINDOW
        while low + step < len(self._ids) and self.after(low + step - 1) < end:
            low, step = low + step, 2 * step
        tokens = range(low, min(low + step, len(self._ids)))
        return min(low + bisect_left(tokens, end, key=self.after), len(self._ids) - 1)

    def after(self, token: int) -> int:
        """Characters that are complete after this token."""
        if token < 0:
            return 0
        if token >= self._first:
            text = self._chat.text(self._ids[self._first : token + 1])
            same = _common(text, self._whole[self._base : self._base + len(text)])
            if same >= len(text.rstrip(UNFINISHED)):
                return self._base + same
        return _common(self._chat.text(self._ids[: token + 1]), self._whole)

    def _advance(self, end: int) -> bool:
        """Move on by a window whose text ends before `end`, if there is one; it must not end within a character."""
        for stop in range(self._first + WINDOW, self._first + WINDOW - 4, -1):
            text = self._chat.text(self._ids[self._first : stop]) if stop < len(self._ids) else self._whole
            if self._base + len(text) < end and self._whole.startswith(text, self._base):
                self._first, self._base = stop, self._base + len(text)
                return True
        return False


def _common(text: str, other: str) -> int:
    """Length of the common prefix of two texts."""
    return next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))
