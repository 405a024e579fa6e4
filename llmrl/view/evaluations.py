"""Evaluations of runs, and what two of them say of the same problems: right before and wrong now, and the other way."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from llmrl.datafiles import json_text
from llmrl.errors import DataError
from llmrl.run_folder.records import METRICS, ROLLOUTS
from llmrl.types import is_correct
from llmrl.view.runs import RunView, natural

Change = Literal["lost", "won", "both", "neither"]
CHANGES: tuple[Change, ...] = ("lost", "won", "both", "neither")
RESULTS = "results.json"
TEXT = 20_000
"""Characters of an answer that are sent."""
LISTED = 500
"""Problems of a comparison that are sent."""


@dataclass(frozen=True, slots=True)
class ProblemResult:
    """A problem in an evaluation: the share of right answers, and where its first line stands."""

    right: float
    offset: int
    length: int


def found(run: RunView) -> list[dict[str, Any]]:
    """The evaluations of a run in their order: folder, benchmarks and their numbers."""
    evaluations = []
    for folder in sorted(_folders(run.folder), key=lambda path: natural(str(path))):
        results: Any = {}
        with suppress(OSError, DataError):
            results = json_text.parse((folder / RESULTS).read_bytes(), RESULTS)
        names = sorted(
            path.stem for path in folder.glob("*.jsonl") if path.name not in (METRICS, ROLLOUTS) and run.inside(path)
        )
        benchmarks = {name: _numbers(results.get(name) if isinstance(results, dict) else None) for name in names}
        if benchmarks:
            relative = folder.relative_to(run.folder).as_posix()
            evaluations.append({"folder": relative, "label": _label(relative), "benchmarks": benchmarks})
    return evaluations


def file_of(run: RunView, folder: str, benchmark: str) -> Path | None:
    """The answers of an evaluation; None where there are none, or they lie outside of the run."""
    if "\0" in folder + benchmark or "/" in benchmark:
        return None
    path = run.folder / folder / f"{benchmark}.jsonl"
    return path if path.name not in (METRICS, ROLLOUTS) and run.inside(path) and path.is_file() else None


def compared(before: Path, after: Path, change: Change) -> dict[str, Any]:
    """Problems of two evaluations: how many changed in which way, and those of a change, with both answers.

    A problem is right where more than half of its judged answers are.
    """
    old, new = (_answers(path, path.stat().st_mtime_ns, path.stat().st_size) for path in (before, after))
    kinds: dict[Change, list[str]] = {name: [] for name in CHANGES}
    for problem in old.keys() & new.keys():
        was, now = old[problem].right > 0.5, new[problem].right > 0.5
        kinds["lost" if was and not now else "won" if now and not was else "both" if now else "neither"].append(problem)
    chosen = sorted(kinds[change], key=natural)[:LISTED]
    rows = [
        {"problem": problem, "before": _record(before, old[problem]), "after": _record(after, new[problem])}
        for problem in chosen
    ]
    only = {"before": len(old.keys() - new.keys()), "after": len(new.keys() - old.keys())}
    return {"counts": {name: len(problems) for name, problems in kinds.items()}, "only": only, "rows": rows}


def _folders(run: Path) -> Iterator[Path]:
    """Folders in which evaluations may lie: the run itself, `eval/step-...`, and those of the demo."""
    yield run
    with suppress(OSError):
        for path in run.iterdir():
            if path.is_dir() and (path / RESULTS).is_file():
                yield path
    with suppress(OSError):
        yield from (path for path in (run / "eval").iterdir() if path.is_dir())


def _label(relative: str) -> str:
    step = relative.removeprefix("eval/step-")
    return f"after {int(step)} steps" if step.isdigit() else "results" if relative == "." else relative


def _numbers(result: Any) -> dict[str, Any]:
    """The measures of a benchmark."""
    if not isinstance(result, Mapping):
        return {}
    kept = ("problems", "samples", "unjudged", "truncated", "mean_tokens")
    return {"metrics": result.get("metrics", {}), **{key: result.get(key) for key in kept}}


@lru_cache(16)
def _answers(path: Path, _changed: int, _size: int) -> dict[str, ProblemResult]:
    """Problems of a file, by id; problems that nobody could judge are left out."""
    right: dict[str, list[bool]] = {}
    places: dict[str, tuple[int, int]] = {}
    offset = 0
    with path.open("rb") as file:
        for line in file:
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                record = json.loads(line)
                problem, verdict = str(record["problem"]), is_correct(record["verdict"])
                if verdict is not None:
                    right.setdefault(problem, []).append(verdict)
                    places.setdefault(problem, (offset, len(line)))
            offset += len(line)
    return {name: ProblemResult(sum(judged) / len(judged), *places[name]) for name, judged in right.items()}


def _record(path: Path, answered: ProblemResult) -> dict[str, Any]:
    with path.open("rb") as file:
        file.seek(answered.offset)
        record = json.loads(file.read(answered.length))
    kept: Sequence[str] = ("verdict", "reason", "final", "answer", "tokens", "finish", "value", "prompt")
    text = str(record.get("completion", ""))
    return {key: record.get(key) for key in kept} | {"completion": text[:TEXT], "right": answered.right}
