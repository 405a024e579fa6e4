"""Fingerprints of models: equal for equal weights, wherever they lie."""

from __future__ import annotations

import hashlib
from pathlib import Path


def fingerprint(model: str, revision: str | None = None) -> str:
    """Hash the weights and the configuration of a model folder; a hub name stands for itself, with its revision.

    Args:
        model: a Hugging Face folder or a hub name.
        revision: of a hub name.
    """
    folder = Path(model)
    if not folder.is_dir():
        return f"{model}@{revision or 'main'}"
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("config.json")]):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
