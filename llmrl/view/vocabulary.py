"""Texts of single tokens, by the tokenizer that a run has kept; ids alone where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmrl.datafiles import json_text

TOKENIZER = "tokenizer.json"
MAX_BYTES = 128 << 20
"""Bytes of a tokenizer that is read."""


class TokenTexts:
    """The tokens of a tokenizer file; of one that is damaged, none."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._tokenizer: Any = None
        if file is not None:
            from tokenizers import Tokenizer

            with suppress(Exception):  # tokenizers raises Exception itself
                self._tokenizer = Tokenizer.from_file(str(file))

    @property
    def known(self) -> bool:
        """True where ids have texts."""
        return self._tokenizer is not None

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, so that together they are the text of all.

        The bytes of a character in several tokens stand at the last of them, the others are empty.
        """
        if self._tokenizer is None:
            return [f"⟨{number}⟩" for number in ids]
        from tokenizers.decoders import DecodeStream

        stream, found = DecodeStream(skip_special_tokens=False), []
        for number in ids:
            try:
                found.append(stream.step(self._tokenizer, int(number)) or "")
            except Exception:  # an id that the vocabulary has not, or bytes that are no text
                found.append(self._tokenizer.id_to_token(int(number)) or f"⟨{number}⟩")
                stream = DecodeStream(skip_special_tokens=False)
        return found


def of_run(folder: Path, recipe: dict[str, Any], given: Path | None = None) -> TokenTexts:
    """The tokenizer of a run: what is given, that of its model or a checkpoint, or that of the policy it began with.

    Args:
        recipe: of the run.
        given: a tokenizer.json, or a folder that holds one.
    """
    return _read(next((path for path in _places(folder, recipe, given) if _fits(path)), None))


def _places(folder: Path, recipe: dict[str, Any], given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given if given.is_file() else given / TOKENIZER
    yield folder / "final" / TOKENIZER
    yield from sorted((folder / "checkpoints").glob(f"*/**/{TOKENIZER}"), reverse=True)[:1]
    model = recipe.get("model")
    policy = model.get("policy") if isinstance(model, dict) else None
    if isinstance(policy, str) and policy:
        yield Path(policy) / TOKENIZER
        yield from _cached(policy)
    with suppress(Exception):
        config = json_text.parse((folder / "config.json").read_bytes(), "config.json")  # of `llmrl eval`
        for settings in config.values():
            yield Path(str(settings["player"]["model"])) / TOKENIZER


def _cached(name: str) -> Iterator[Path]:
    """The file of a hub's model in the cache of this machine; nothing is fetched."""
    with suppress(Exception):
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(name, TOKENIZER)
        if isinstance(found, str):
            yield Path(found)


def _fits(path: Path) -> bool:
    with suppress(OSError):
        return path.is_file() and path.stat().st_size <= MAX_BYTES
    return False


@lru_cache(8)
def _read(file: Path | None) -> TokenTexts:
    return TokenTexts(file)
