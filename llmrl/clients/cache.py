"""Replies kept on disk by their request: one small file each, which any number of processes may share."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrl.errors import RewardError

log = logging.getLogger(__name__)


@dataclass
class Cache:
    """Files `folder/ab/abcd....json`, each written whole or not at all; a file that is broken is no entry.

    Raises:
        RewardError: the folder cannot be made.
    """

    folder: Path
    corrupt: int = field(default=0, init=False)  # entries found broken
    _warned: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RewardError(f"{self.folder}: cannot be made: {error.strerror}; choose another `cache`") from None

    def get(self, key: str) -> str | None:
        """Read the text kept under a key; None where there is none, or a broken one, which is counted."""
        try:
            data = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            self.corrupt += 1
            return None
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            entry = json.loads(data)
            text: str = entry["text"]
            if entry["key"] == key and entry["digest"] == _digest(text):
                return text
        self.corrupt += 1
        return None

    def put(self, key: str, text: str, about: Mapping[str, Any]) -> None:
        """Keep a text, with `about` for people. A disk that is full costs the entry, not the run."""
        path = self._path(key)
        entry = {"key": key, "digest": _digest(text), "text": text, **about}
        try:
            path.parent.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
                try:
                    file.write(json.dumps(entry).encode())
                    file.flush()
                    os.replace(file.name, path)
                except OSError:
                    os.unlink(file.name)
                    raise
        except OSError as error:
            if not self._warned:
                log.warning("%s: cannot be written: %s; replies are asked for again", path, error.strerror)
            self._warned = True

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def key_of(body: Mapping[str, Any]) -> str:
    """Key of a request, equal for equal requests: model, messages and options."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
