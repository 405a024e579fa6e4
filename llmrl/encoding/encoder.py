"""Encode texts whole: what stands before a piece and behind it may change its tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from llmrl.errors import CheckpointError, DataError

_CONTEXT = 200  # characters before a text that can change its first tokens
_MARK = "\ue000{number}\ue001"


class _Twin(NamedTuple):
    """A tokenizer of the same pieces whose special tokens are spelled otherwise, so that no text spells them."""

    backend: Any
    spellings: Mapping[str, str]  # of its special tokens, by those of the tokenizer
    ids: Mapping[int, int]  # of the tokenizer, by its own, where they differ


@dataclass
class TextEncoder:
    """Encodes texts by a tokenizer of Transformers; text of messages never becomes a special token."""

    tokenizer: Any
    _twins: dict[tuple[str, ...], _Twin] = field(default_factory=dict)

    def special_tokens(self) -> list[str]:
        """Spellings of the special tokens."""
        return [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]

    def hidden(self, texts: Sequence[str]) -> dict[str, str]:
        """A placeholder, one character, for each special token that the texts spell; its text by the placeholder."""
        spelled = sorted({word for text in texts for word in self._pattern().findall(text)})
        free = (chr(code) for code in range(0xE010, 0xF900) if not any(chr(code) in text for text in texts))
        return dict(zip(free, spelled, strict=False))

    def hide(self, text: str, hidden: Mapping[str, str]) -> str:
        """The text with its placeholders."""
        marks = {word: mark for mark, word in hidden.items()}
        return self._pattern().sub(lambda match: marks[match[0]], text) if hidden else text

    def ids(self, text: str, hidden: Mapping[str, str]) -> list[int]:
        """Encode a text whole, without what the tokenizer adds; placeholders are the ordinary text they stand for.

        Raises:
            DataError: it holds half a character, which a tokenizer cannot read; or ordinary text that this tokenizer
                takes for a special token in any case.
        """
        _require_characters(text)
        if not any(mark in text for mark in hidden):
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if getattr(self.tokenizer, "backend_tokenizer", None) is None:
            return self._in_parts(text, hidden)
        return self._by_twin(text, hidden)

    def ids_behind(self, context: str, text: str, hidden: Mapping[str, str]) -> list[int]:
        """Encode a text as it stands behind another, whose own tokens are known and stay.

        A tokenizer may put a space before a text that begins, or strip one; behind another text it does not. Where
        both share a token at their border, the text is encoded alone.
        """
        before = context[-_CONTEXT:]
        if not text or not before:
            return self.ids(text, hidden) if text else []
        first, both = self.ids(before, hidden), self.ids(before + text, hidden)
        return both[len(first) :] if both[: len(first)] == first else self.ids(text, hidden)

    def prompt_ids(self, text: str) -> list[int]:
        """Encode a text with what the tokenizer puts before it, such as a first token, and without what it puts behind.

        Raises:
            DataError: as `ids`.
            CheckpointError: the tokenizer changes the text's own tokens when it adds others.
        """
        _require_characters(text)
        plain = list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        full = list(self.tokenizer(text, split_special_tokens=True)["input_ids"])
        for start in range(len(full) - len(plain) + 1):
            if full[start : start + len(plain)] == plain:
                return full[: start + len(plain)]
        raise CheckpointError(
            f"the tokenizer ({type(self.tokenizer).__name__}) changes a text's own tokens when it adds special ones; "
            "expected one that adds them before and behind, or a chat template"
        )

    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.special_tokens(), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def _by_twin(self, text: str, hidden: Mapping[str, str]) -> list[int]:
        twin = self._twin()
        real = self._pattern().sub(lambda match: twin.spellings[match[0]], text)
        whole = "".join(hidden.get(character, character) for character in real)
        encoded = twin.backend.encode(whole, add_special_tokens=False).ids
        special = set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}
        if stolen := sorted(special.intersection(encoded)):
            raise DataError(
                f"a message spells the special token {self.tokenizer.decode([stolen[0]])!r}, which this tokenizer "
                "takes for it in any text; remove it from the data"
            )
        return [twin.ids.get(token, token) for token in encoded]

    def _twin(self) -> _Twin:
        special = tuple(self.special_tokens())
        if special not in self._twins:
            from tokenizers import Tokenizer

            state = json.loads(self.tokenizer.backend_tokenizer.to_str())
            spellings: dict[str, str] = {}
            for number, token in enumerate(state["added_tokens"]):
                if token["special"]:
                    spellings[token["content"]] = token["content"] = _MARK.format(number=number)
            backend = Tokenizer.from_str(json.dumps(state))
            backend.no_truncation()
            backend.no_padding()
            own = {old: int(self.tokenizer.convert_tokens_to_ids(old)) for old in spellings}
            ids = {int(backend.token_to_id(new) or 0): own[old] for old, new in spellings.items()}
            self._twins[special] = _Twin(backend, spellings, ids)
        return self._twins[special]

    def _in_parts(self, text: str, hidden: Mapping[str, str]) -> list[int]:
        """Encode what stands between placeholders and these each by itself, for tokenizers without a twin."""
        ids: list[int] = []
        for part in re.split(f"([{''.join(hidden)}])", text):
            if part:
                plain = part in hidden
                encoded = self.tokenizer(hidden.get(part, part), add_special_tokens=False, split_special_tokens=plain)
                ids += encoded["input_ids"]
        return ids


def _require_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"a prompt holds half a character, the lone surrogate \\u{ord(text[error.start]):04x}, behind "
            f"{text[max(0, error.start - 30) : error.start]!r}; remove it from the data or the template"
        ) from None
