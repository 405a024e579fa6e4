"""A tokenizer that merges, and an engine that samples what it would not write: texts have many encodings.

With a tokenizer of bytes, decoding and encoding again changes nothing, and code that does so passes every test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from llmrl.chat import Chat
from llmrl.engines.scripted import Scripted, ScriptedEngine
from llmrl.tiny import make_tokenizer

TEXTS = [
    "The capital of France is Paris. Let me think about the answer: it is the first line, and the second line.",
    'So the answer is the number.\nThe next line says "stay" and "move left". <tool_call>{"name": "calculator"}',
    "question answer reasoning reply because therefore hence thought thinking conversation",
]


@cache
def merged_chat() -> Chat:
    """A chat whose tokenizer has learned the words of `TEXTS`."""
    return Chat(make_tokenizer(texts=TEXTS))


@dataclass(frozen=True)
class Pieces:
    """Cuts a text at random into tokens of a tokenizer, never into those that the tokenizer itself would write."""

    tokenizer: Any

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Token ids that decode to the text; the same each time."""
        from tokenizers.pre_tokenizers import ByteLevel

        usual = self.tokenizer.encode(text, add_special_tokens=False)
        spelled = "".join(piece for piece, _ in ByteLevel(False, use_regex=False).pre_tokenize_str(text))
        vocabulary, draw = self.tokenizer.get_vocab(), Random(text)
        while True:
            ids, at = [], 0
            while at < len(spelled):
                ends = [end for end in range(at + 1, min(len(spelled), at + 6) + 1) if spelled[at:end] in vocabulary]
                end = draw.choice(ends)
                ids.append(vocabulary[spelled[at:end]])
                at = end
            if ids != usual or len(usual) == len(spelled):
                return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(ids)
        return text


def sampling_engine(replies: Any) -> ScriptedEngine:
    """An engine that answers by `replies`, in pieces of `merged_chat`."""
    tokenizer = merged_chat().tokenizer
    return ScriptedEngine(
        tokenizer=Pieces(tokenizer), options=Scripted(replies=replies), stop_token_ids=[tokenizer.eos_token_id]
    )
