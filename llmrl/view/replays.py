"""Steps that were taken again, as `llmrl replay --view` keeps them in a run's folder, for the page of the step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmrl.datafiles import json_text
from llmrl.errors import LlmrlError
from llmrl.run_folder.records import REPLAYS
from llmrl.view.runs import RunView

MOST_BYTES = 256 << 20
"""Bytes of a file that is read: tokens of a step of a thousand long answers."""
KEPT = ("step", "same", "notes", "metrics_compared", "metrics_differing", "weights", "algorithms", "verdicts")
"""Keys of a replay that a page gets as they are."""


def found(run: RunView, step: int) -> list[dict[str, Any]]:
    """The replays of a step, by name of their files; what cannot be read says so under `error`."""
    return [replay for replay in _all(run) if replay.get("step", step) == step]


def _all(run: RunView) -> Iterator[dict[str, Any]]:
    for path in sorted((run.folder / REPLAYS).glob("*.json")):
        try:
            stat = path.stat()
            if not run.inside(path) or not path.is_file():
                continue
            if stat.st_size > MOST_BYTES:
                raise ValueError(f"{stat.st_size >> 20} MiB; expected at most {MOST_BYTES >> 20}")
            yield {"file": path.name} | _read(path, stat.st_mtime_ns, stat.st_size)
        except (OSError, ValueError, LlmrlError) as error:
            yield {"file": path.name, "error": str(error)}


@lru_cache(8)
def _read(path: Path, _changed: int, _size: int) -> dict[str, Any]:
    """A replay as the page shows it.

    Raises:
        ValueError, DataError: the file is no replay; says what is wrong with it.
    """
    whole = json_text.parse(path.read_text(encoding="utf-8"), path.name)
    expected = {"step": int, "algorithms": list, "episodes": list, "verdicts": dict}
    if not isinstance(whole, dict) or not all(isinstance(whole.get(key), kind) for key, kind in expected.items()):
        raise ValueError(f"expected what llmrl replay --view writes, with {', '.join(expected)}")
    if not whole["algorithms"] or not all(map(_is_summary, whole["algorithms"])):
        raise ValueError("algorithms: expected a summary with a label each, the record's first")
    if not all(isinstance(pairs, list) and all(map(_is_pair, pairs)) for pairs in whole["verdicts"].values()):
        raise ValueError("verdicts: expected lists of scores before and now")
    for place, episode in enumerate(whole["episodes"]):
        if not _is_episode(episode):
            raise ValueError(f"episode {place}: expected texts, turn_ids and credit, one entry for each token")
    return {key: whole[key] for key in KEPT if key in whole} | {"episodes": list(map(_episode, whole["episodes"]))}


def _is_summary(each: Any) -> bool:
    return isinstance(each, dict) and isinstance(each.get("label"), str)


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, dict) and all(isinstance(pair.get(side), dict) for side in ("before", "now"))


def _is_episode(episode: Any) -> bool:
    if not isinstance(episode, dict) or not isinstance(episode.get("texts"), list):
        return False
    credit, turns, count = episode.get("credit"), episode.get("turn_ids"), len(episode["texts"])
    columns = [turns, *credit.values()] if isinstance(credit, dict) else [None]
    return all(isinstance(column, list) and len(column) == count for column in columns)


def _episode(episode: Mapping[str, Any]) -> dict[str, Any]:
    """An episode without the prompt that stands before its first action."""
    first = next((i for i, turn in enumerate(episode["turn_ids"]) if turn != -1), 0)
    return {
        **{key: episode.get(key) for key in ("group", "episode", "reward")},
        "texts": episode["texts"][first:],
        "turn_ids": episode["turn_ids"][first:],
        "credit": {label: numbers[first:] for label, numbers in episode["credit"].items()},
    }
