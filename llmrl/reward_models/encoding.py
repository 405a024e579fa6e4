"""Encode the input of a reward model piece by piece, so that the place of each score is known and not searched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from llmrl.chat import Chat
from llmrl.datafiles.images import images_of
from llmrl.errors import CheckpointError, DataError
from llmrl.reward_models.card import CHAT
from llmrl.reward_models.rows import AnswerRow
from llmrl.sandbox.rendering import TemplateRefusal, rendered

RESPONSE, BEGIN, END = "\ue002", "\ue000", "\ue001"  # private characters, which no text of people holds
MARKS = str.maketrans("", "", RESPONSE + BEGIN + END)
PIECES = re.compile(f"({BEGIN}[^{END}]*{END}|{RESPONSE})")


@dataclass(frozen=True, slots=True)
class Encoded:
    """The tokens of one answer. Places are indices into `token_ids`, and below 0 where they were cut off."""

    token_ids: list[int]
    response: range  # the tokens that were answered: separators between steps and the end of sequence included
    step_ends: list[int]  # the last token of the separator behind each step
    cut: int = 0  # tokens that `max_length` took from the beginning


@dataclass(frozen=True)
class Encoder:
    """Encodes answers, always in the same way for the same template.

    The tokens are those of the prompt, the response and the template's text behind it, each encoded by itself, and
    one end of sequence, whatever the response ends with. Text of a prompt, a response or a variable never becomes a
    special token. With `steps` every step and the separator behind it are encoded by themselves; the separator, which
    comes from the recipe alone, may be a special token.
    """

    chat: Chat
    template: str = CHAT
    separator: str = "\n"
    max_length: int = 1024

    def __call__(self, answer: AnswerRow) -> Encoded:
        """Encode an answer; the last `max_length` tokens of it.

        Raises:
            DataError: the template asks for a variable that the answer lacks, or has no place for the response.
            CheckpointError: the separator gives no token, or there is no end-of-sequence token.
        """
        before, after = self._frame(answer)
        body, ends = self._body(answer)
        end = self._end_id
        if not after or after[-1] != end:
            after = [*after, end]
        ids = [*before, *body, *after]
        begin, stop = len(before), len(before) + len(body)
        if after == [end]:
            stop += 1  # the policy's own last token
        cut = max(0, len(ids) - self.max_length)
        return Encoded(
            token_ids=ids[cut:],
            response=range(begin - cut, stop - cut),
            step_ends=[begin + place - cut for place in ends],
            cut=cut,
        )

    def ends(self, answer: AnswerRow) -> list[int]:
        """End of each token of a response in its text, in characters, ascending; the end of sequence at its end."""
        text = self._without_end(answer.response)
        if not text:
            return [0]
        encoded = self.chat.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        return [*(end for _, end in encoded["offset_mapping"]), len(text)]

    def _body(self, answer: AnswerRow) -> tuple[list[int], list[int]]:
        """Tokens of the response, and the ends of its steps among them."""
        if answer.steps is None:
            return self._plain(self._without_end(answer.response)), []
        ids: list[int] = []
        ends: list[int] = []
        for step in answer.steps:
            ids += self._plain(self._without_end(step))
            ids += self._separator_ids
            ends.append(len(ids) - 1)
        return ids, ends

    def _frame(self, answer: AnswerRow) -> tuple[list[int], list[int]]:
        """Tokens before the response and behind it."""
        if not isinstance(answer.prompt, str) and (images := images_of(answer.prompt)):
            raise DataError(f"{len(images)} pictures in the prompt, and reward models read texts alone")
        if self.template == CHAT:
            prompt = answer.prompt
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            return self.chat.prompt_ids(messages), []
        text = self._rendered(answer)
        pieces = PIECES.split(text)
        if pieces.count(RESPONSE) != 1:
            raise DataError(
                f"the reward model's template puts the response in {pieces.count(RESPONSE)} places; expected "
                "{{ response }} once, without a filter"
            )
        middle = pieces.index(RESPONSE)
        return self._joined(pieces[:middle]), self._joined(pieces[middle + 1 :])

    def _rendered(self, answer: AnswerRow) -> str:

        prompt = answer.prompt
        text = prompt if isinstance(prompt, str) else "\n".join(str(message.get("content")) for message in prompt)
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        values: Mapping[str, Any] = {**answer.variables, "prompt": text, "messages": messages, "response": RESPONSE}
        try:
            return rendered("the reward model's template", _render, self.template, values)[0]
        except TemplateRefusal as refusal:
            known = ", ".join(sorted(values))
            raise DataError(f"the reward model's template: {refusal}; the answer has {known}") from None

    def _joined(self, pieces: Sequence[str]) -> list[int]:
        """Encode the template's own text with its special tokens, and variables without any."""
        ids: list[int] = []
        for piece in pieces:
            if piece.startswith(BEGIN):
                ids += self._plain(piece[1:-1])
            elif piece:
                ids += self.chat.tokenizer(piece, add_special_tokens=False)["input_ids"]
        return ids

    def _plain(self, text: str) -> list[int]:
        if not text:
            return []
        ids: list[int] = self.chat.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def _without_end(self, text: str) -> str:
        """Remove an end of sequence that the text spells, as a decoder that keeps special tokens writes it."""
        end: str = self.chat.tokenizer.eos_token or ""
        return text.removesuffix(end) if end else text

    @cached_property
    def _end_id(self) -> int:
        end = self.chat.tokenizer.eos_token_id
        if not isinstance(end, int):
            raise CheckpointError("the tokenizer of the reward model has no end-of-sequence token; set eos_token")
        return end

    @cached_property
    def _separator_ids(self) -> list[int]:
        ids: list[int] = self.chat.tokenizer(self.separator, add_special_tokens=False)["input_ids"]
        if not ids:
            raise CheckpointError(f"the separator {self.separator!r} is no token of this tokenizer; choose another")
        return ids


def _render(template: str, values: Mapping[str, Any]) -> list[str]:
    """The text of a template, with marks; it runs in the process of `llmrl.sandbox.rendering`."""
    rendered: str = _compiled(template).render(values)
    return [rendered]


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    made = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_marked, keep_trailing_newline=True)
    return made.from_string(template)


def _marked(value: Any) -> str:
    """Put marks around a variable's text, which keep it apart from the template's own."""
    text = str(value)
    return RESPONSE if text == RESPONSE else f"{BEGIN}{text.translate(MARKS)}{END}"
