"""Runs in folders: which there are, how they stand, and the files of them that a page may show."""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmrl.datafiles import json_text
from llmrl.errors import DataError, LlmrlError
from llmrl.recipe import yaml_text
from llmrl.run_folder.curves import USUAL
from llmrl.run_folder.lock import FILE as LOCK
from llmrl.run_folder.records import METRICS, REPLAYS, ROLLOUTS
from llmrl.view.episodes import Episodes

DEPTH, MOST = 4, 2000
"""Levels of folders below one that is given, and folders in all, in which runs are looked for."""
RECIPE, MANIFEST = "recipe.yaml", "manifest.json"
SKIPPED = {"checkpoints", "final", "exported", "eval", "replay", REPLAYS, "node_modules", "__pycache__"}
PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
TEXTS = {".log", ".txt", ".md", ".yaml", ".json", ".jsonl", ".csv", ".patch", ".diff"}
SHOWN_BYTES = 256 << 10
"""Bytes of a text, from its end, that are shown."""
FILES = 500
"""Files of a run that are listed."""
HIDDEN = {ROLLOUTS, METRICS, LOCK}


class RunView:
    """A run's folder as it stands: its metrics, which grow, and its episodes."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.episodes = Episodes(folder)
        self._lock = threading.Lock()
        self._read = 0  # bytes of metrics.jsonl
        self._metrics: dict[str, list[tuple[int, float]]] = {}
        self._steps = 0

    def metrics(self) -> Mapping[str, Sequence[tuple[int, float]]]:
        """Points of each metric, (step, value), in the order of the steps; reads what has been added."""
        path = self.folder / METRICS
        with self._lock:
            try:
                size = path.stat().st_size
            except OSError:
                return {}
            if size < self._read:  # a resumed run has gone back
                self._read, self._metrics, self._steps = 0, {}, 0
            if size > self._read:
                with path.open("rb") as file:
                    file.seek(self._read)
                    for line in file:
                        if not line.endswith(b"\n"):
                            break
                        self._read += len(line)
                        self._take(line)
            return self._metrics

    def _take(self, line: bytes) -> None:
        with suppress(DataError, TypeError, AttributeError, KeyError):
            values = json_text.parse(line, METRICS)
            step = values.pop("step")
            if isinstance(step, int) and step < self._steps:  # written again since
                self._metrics = {
                    name: [point for point in points if point[0] < step] for name, points in self._metrics.items()
                }
            self._steps = step + 1
            for name, value in values.items():
                if isinstance(value, int | float) and math.isfinite(value):
                    self._metrics.setdefault(name, []).append((step, value))

    def summary(self) -> dict[str, Any]:
        """Name, state, steps so far and asked for, and the last value of each metric."""
        metrics, manifest, recipe = self.metrics(), self.manifest(), self.recipe()
        train = recipe.get("train")
        group, _, seed = self.name.rpartition("-")
        is_seed = bool(group) and seed.isdigit()
        return {
            "name": self.name,
            "group": group if is_seed else self.name,
            "status": str(manifest.get("status", "")),
            "steps": self._steps,
            "max_steps": train.get("max_steps") if isinstance(train, dict) else None,
            "last": {name: points[-1][1] for name, points in metrics.items() if points and is_usual(name)},
            "episodes": (self.folder / ROLLOUTS).exists(),
            "changed": self.changed(),
        }

    def changed(self) -> float:
        """Time of the last write to its logs, in seconds of the epoch."""
        times = [0.0]
        for name in (METRICS, ROLLOUTS, MANIFEST):
            with suppress(OSError):
                times.append((self.folder / name).stat().st_mtime)
        return max(times)

    def manifest(self) -> dict[str, Any]:
        """The manifest; empty where there is none that can be read."""
        return _tree(self.folder / MANIFEST)

    def recipe(self) -> dict[str, Any]:
        """The resolved recipe; empty where there is none that can be read."""
        return _tree(self.folder / RECIPE)

    def files(self) -> list[dict[str, Any]]:
        """Pictures and texts of the folder, those of its logs and models left out, the newest first."""
        found: list[dict[str, Any]] = []
        for folder, inner, names in os.walk(self.folder):
            inner[:] = sorted(name for name in inner if name not in SKIPPED - {"eval"} and not name.startswith("."))
            for name in names:
                path = Path(folder, name)
                if kind(path) and name not in HIDDEN and self.inside(path):
                    with suppress(OSError):
                        stat, relative = path.stat(), path.relative_to(self.folder).as_posix()
                        found.append({"path": relative, "bytes": stat.st_size, "changed": stat.st_mtime})
            if len(found) > 4 * FILES:
                break
        found.sort(key=lambda file: (-file["changed"], file["path"]))
        return [file | {"picture": Path(file["path"]).suffix.lower() in PICTURES} for file in found[:FILES]]

    def file(self, relative: str) -> Path | None:
        """A picture or a text of the folder; None for anything else, and for whatever lies outside."""
        if "\0" in relative:
            return None
        path = self.folder / relative
        return path if kind(path) and self.inside(path) and path.is_file() else None

    def inside(self, path: Path) -> bool:
        """True where a path, its links followed, lies in the run's folder."""
        with suppress(OSError, RuntimeError):
            return path.resolve().is_relative_to(self.folder.resolve())
        return False


class Runs:
    """The runs below some folders; new ones are found while they begin."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._known: dict[Path, RunView] = {}
        self._lock = threading.Lock()

    def found(self) -> list[RunView]:
        """The runs that are there now, by name."""
        with self._lock:
            there = {}
            for folder in self._folders:
                for path in below(folder):
                    there[path] = self._known.get(path) or RunView(path, _name(folder, path))
            names: dict[str, int] = {}
            for view in there.values():  # two folders may hold runs of one name
                names[view.name] = names.get(view.name, 0) + 1
                if names[view.name] > 1:
                    view.name = str(view.folder)
            self._known = there
            return sorted(there.values(), key=lambda view: natural(view.name))

    def named(self, name: str) -> RunView | None:
        """The run of a name; None where there is none."""
        known = next((view for view in self._known.values() if view.name == name), None)
        return known or next((view for view in self.found() if view.name == name), None)

    def close(self) -> None:
        """Stop what reads in the background, and keep what it has found."""
        for view in self._known.values():
            view.episodes.close()


def _tree(path: Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file; empty where there is none that can be read."""
    with suppress(OSError):
        stat = path.stat()
        return _parsed(path, stat.st_mtime_ns, stat.st_size)
    return {}


@lru_cache(4096)
def _parsed(path: Path, _changed: int, _size: int) -> dict[str, Any]:
    with suppress(OSError, ValueError, LlmrlError):
        text = path.read_text(encoding="utf-8")
        found = json_text.parse(text, path.name) if path.suffix == ".json" else yaml_text.parse(text, path.name)
        return found if isinstance(found, dict) else {}
    return {}


def _name(folder: Path, path: Path) -> str:
    relative = path.relative_to(folder).as_posix()
    return (folder.resolve().name or str(folder)) if relative == "." else relative


def is_usual(metric: str) -> bool:
    """True for metrics that a list of runs shows, and that a page draws first."""
    return metric in USUAL or (metric.startswith("eval/") and "/avg@" in metric)


def below(folder: Path) -> Iterator[Path]:
    """Folders of runs and of evaluations: the folder itself, or those in it."""
    left, level = MOST, [folder]
    for _ in range(DEPTH + 1):
        following: list[Path] = []
        for path in level:
            if is_run(path):
                yield path
                continue
            with suppress(OSError):
                for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
                    if entry.is_dir() and not entry.name.startswith(".") and entry.name not in SKIPPED - {"eval"}:
                        following.append(path / entry.name)
        level, left = following[: max(0, left)], left - len(following)


def is_run(folder: Path) -> bool:
    """True for a folder that a run, or `llmrl eval`, has written."""
    return any((folder / name).is_file() for name in (METRICS, ROLLOUTS, "results.json"))


def require_runs(folders: Sequence[Path]) -> None:
    """Refuse folders that are not there.

    Raises:
        DataError: names the folder.
    """
    for folder in folders:
        if not folder.is_dir():
            found = "a file" if folder.exists() else "no such folder"
            raise DataError(f"{folder}: {found}; expected the folder of a run, or one that holds runs, such as runs")


def kind(path: Path) -> str:
    """`picture`, `text` or "" for a file that is not shown."""
    suffix = path.suffix.lower()
    return "picture" if suffix in PICTURES else "text" if suffix in TEXTS else ""


def natural(name: str) -> list[str | int]:
    """Key of an order in which `run-2` stands before `run-10`."""
    return [int(part) if number % 2 else part for number, part in enumerate(re.split(r"([0-9]+)", name))]


def differences(runs: Sequence[RunView]) -> list[dict[str, Any]]:
    """Keys of the recipes in which runs differ, with the value of each run; None where it has none."""
    flat = [dict(_flat(run.recipe())) for run in runs]
    keys = list(dict.fromkeys(key for each in flat for key in each))
    rows = [{"key": key, "values": [each.get(key) for each in flat]} for key in keys]
    return [row for row in rows if len(set(map(_text, row["values"]))) > 1]


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
