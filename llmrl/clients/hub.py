"""The Hugging Face hub: what cannot be a name of it, and whether it can be reached at all."""

from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from pathlib import Path

from llmrl.errors import CheckpointError

NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
"""A model of the hub: `owner/name`, or `name` alone."""
PATIENCE_S = 5.0


def require_present(name: str, where: str, revision: str | None = None) -> None:
    """Look on the disk for a model before a hub is asked for a folder that is not there.

    A name that the hub could have is left alone, unless a folder of its first word is here, as `runs` is for
    `runs/gsm8k/final`. A revision, or a copy in the hub's cache, says that the hub is meant.

    Raises:
        CheckpointError: it is a path, and there is no such folder; says what is beside it.
    """
    path = Path(name)
    if path.is_dir():
        return
    if path.is_file():
        raise CheckpointError(f"{where} {name}: a file; expected a model's folder, or a name of the hub")
    could_be = NAME.fullmatch(name) is not None
    if could_be and (revision is not None or "/" not in name or not path.parent.is_dir() or _cached(name)):
        return
    if name.startswith("~"):
        raise CheckpointError(f"{where} {name}: no such folder, for ~ is not read here; write {path.expanduser()}")
    nearest = next((parent for parent in path.parents if parent.is_dir()), Path())
    beside = sorted(entry.name for entry in nearest.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    held = f"; {nearest} holds {', '.join(beside[:6]) or 'no folder'}{' ...' if len(beside) > 6 else ''}"
    other = ", or, if the hub has it, model.model_revision=main" if could_be else ""
    raise CheckpointError(
        f"{where} {name}: no such folder here{held}. Expected a model's folder, or a name of the hub, such as "
        f"Qwen/Qwen2.5-0.5B-Instruct{other}"
    )


def look(model: str | None = None, revision: str | None = None) -> None:
    """Before the hub is asked: where it cannot be reached its libraries read their cache only, and do not retry.

    They would otherwise ask five times over a minute, for every file.

    Raises:
        CheckpointError: the model is a path, and there is no such folder.
    """
    if model is not None:
        require_present(model, "model", revision)
        if Path(model).is_dir():
            return
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and (reason := _unreachable()):
        print(
            f"llmrl: {constants.ENDPOINT} cannot be reached ({reason}): only the hub's cache is read", file=sys.stderr
        )
        os.environ["HF_HUB_OFFLINE"] = "1"  # for processes that are started
        constants.HF_HUB_OFFLINE = True
        if (datasets := sys.modules.get("datasets")) is not None:
            datasets.config.HF_HUB_OFFLINE = datasets.config.HF_DATASETS_OFFLINE = True


@lru_cache(maxsize=1)
def _unreachable() -> str:
    """Reason why the hub does not answer, by one question of `PATIENCE_S`; "" where it does, whatever it answers."""
    import httpx
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE_S)
    except (httpx.TransportError, OSError) as error:
        return (str(error).splitlines() or [""])[0] or type(error).__name__
    return ""


def _cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)
