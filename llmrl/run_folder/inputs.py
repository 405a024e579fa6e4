"""Everything that decides a run besides its recipe: files that it names, code of plug-ins, its data and its model."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmrl.errors import CheckpointError
from llmrl.run_folder.fingerprint import fingerprint

MANIFEST = "manifest.json"
_ATTRIBUTE = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_][\w.]*")
_LIMIT = 1 << 30  # bytes of a file; larger ones are told by their size


def inputs(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of the files and model folders that a recipe names, and of the modules of plug-ins of others, by path.

    Args:
        recipe: as plain values; its policy is left out, of which the manifest has every file.
    """
    found: dict[str, str] = {}
    for text in sorted(set(_texts(recipe)) - {recipe["model"]["policy"]}):
        if match := _ATTRIBUTE.fullmatch(text):
            module = sys.modules.get(match[1])
            text = getattr(module, "__file__", None) or text
        path = Path(text)
        try:
            if path.is_file():
                found[text] = _hash(path)
            elif (path / "config.json").is_file():
                found[text] = fingerprint(text)
        except (OSError, ValueError):  # a long text, say, is no path
            continue
    return found


def require_same(folder: Path, now: Mapping[str, Any]) -> list[str]:
    """Compare what decides a run with what its manifest has kept of the steps before.

    Args:
        folder: of the run, which goes on.
        now: the manifest as it would be written.
    Returns:
        Files whose content has changed, and with which a run may go on: code and files that plug-ins read.
    Raises:
        CheckpointError: the data, or a model's folder, is another; names it.
    """
    files, changed = changes(folder, now)
    if changed:
        raise CheckpointError(
            f"{folder}: cannot go on with other inputs than it began with; changed since: {', '.join(changed)}. Bring "
            "them back, or choose another train.run_name to start anew"
        )
    return files


def changes(folder: Path, now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Inputs of a run that are others than its manifest has kept.

    Args:
        folder: of the run.
        now: the manifest as it would be written.
    Returns:
        Files whose content has changed, and, described, data and folders of models.
    """
    try:
        before = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        before = None
    if not isinstance(before, dict):
        return [], []  # nothing is known, as of a run of which a file was lost
    model, data = _differing(before, now, "model", "files"), _differing(before, now, "data")
    files = _differing(before, now, "inputs")
    folders = [name for name in files if Path(name).is_dir()]
    changed = [f"{now['model']['name']}/{name}" for name in model] + folders
    if data:
        changed.append(f"the data ({', '.join(f'{name} was {_short(before, name)}' for name in data)})")
    return [name for name in files if name not in folders], changed


def _differing(before: Mapping[str, Any], now: Mapping[str, Any], *keys: str) -> list[str]:
    """Names under these keys that both have, with other values."""
    left, right = before, now
    for key in keys:
        left, right = left.get(key) or {}, right.get(key) or {}
    if keys == ("model", "files") and left and right:
        return sorted(name for name in {*left, *right} if left.get(name) != right.get(name))
    plain = json.loads(json.dumps(dict(right), default=str))
    return sorted(name for name in left.keys() & plain.keys() if left[name] != plain[name])


def _short(before: Mapping[str, Any], name: str) -> str:
    return str(before["data"][name])[:16]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _hash(path: Path) -> str:
    size = path.stat().st_size
    if size > _LIMIT:
        return f"{size} bytes"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
