"""Decide of each stage if it is done, goes on, begins, or is stale and why: by hashes of its recipe and its inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llmrl.errors import CheckpointError
from llmrl.evaluation.records import read_json, write_json
from llmrl.pipeline.stages import Pipeline, Stage, texts
from llmrl.run_folder import checksums, lock
from llmrl.run_folder.ownership import FREE, RECIPE
from llmrl.run_folder.records import METRICS

RECORD = "stage.json"
"""The file in a stage's folder that says from what it was made."""
ASIDE = ".stale-"
"""Between a stage's name and a number, in the name of the folder that a stale stage is kept in."""
_FREE = {f"train.{name}" for name in FREE} - {"train.max_steps"}  # they change nothing that a stage makes

_OURS = (lock.FILE, "stage.partial")  # the latter of a kill while a record was written
_NO_PATHS = ("name", "kind", "engine", "benchmarks", "output_dir", "run_name", "cache", "logs")

_LOGS = (lock.FILE, METRICS, RECIPE, "manifest.json", "errors.log", "eval")
"""Files and folders in an input that tell of time and place, or of its use, and are not what is read."""

State = Literal["done", "resumes", "missing", "stale", "waits"]


@dataclass(frozen=True)
class Standing:
    """The state of a stage, and the reason for it in words; `inputs` are the hashes of what it reads now."""

    stage: Stage
    state: State
    why: str
    inputs: Mapping[str, str]


def plan(pipeline: Pipeline) -> list[Standing]:
    """The standing of every stage. One whose inputs are still to be made waits: it is judged once they are there.

    Raises:
        DataError: a record is damaged.
        CheckpointError: an input cannot be read.
    """
    standings: list[Standing] = []
    for stage in pipeline.stages:
        unfinished = [standing.stage.name for standing in standings if standing.state != "done"]
        sources = dict.fromkeys(reference.stage for reference in stage.references)
        awaited = [name for name in sources if name in unfinished]
        standings.append(_waiting(pipeline, stage, awaited) if awaited else standing_of(pipeline, stage))
    return standings


def standing_of(pipeline: Pipeline, stage: Stage) -> Standing:
    """The standing of a stage whose inputs are there.

    Raises:
        DataError: its record is damaged.
        CheckpointError: an input, or an output that it reads, cannot be read.
    """
    folder = pipeline.folder / stage.name
    inputs = hashes(pipeline, stage)
    record = read_json(folder / RECORD)
    if not record:
        if folder.exists() and (there := [path.name for path in folder.iterdir() if path.name not in _OURS]):
            raise CheckpointError(
                f"{folder}: holds {', '.join(sorted(there)[:3])} and no {RECORD}: no stage of a pipeline has made it; "
                "move it away, or choose another run_name"
            )
        return Standing(stage, "missing", "nothing there yet", inputs)
    if changes := list(_changes(record, stage, inputs)):
        return Standing(stage, "stale", "; ".join(changes), inputs)
    if not record.get("finished"):
        return Standing(stage, "resumes", "begun, not finished", inputs)
    if lost := [path for path in stage.acts.outputs.values() if not (folder / path).exists()]:
        return Standing(stage, "stale", f"its {', '.join(lost)} is gone", inputs)
    return Standing(stage, "done", "", inputs)


def begin(pipeline: Pipeline, standing: Standing) -> None:
    """Write down from what a stage is made, before it is; the folder of a stale one is kept under another name.

    Raises:
        CheckpointError: the folder cannot be renamed.
        LlmrlError: the record cannot be written.
    """
    stage, folder = standing.stage, pipeline.folder / standing.stage.name
    if standing.state == "stale":
        set_aside(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, {"kind": stage.kind, "recipe": stage.recipe, "inputs": dict(standing.inputs), "finished": False})


def finish(pipeline: Pipeline, stage: Stage) -> None:
    """Write down that a stage is complete.

    Raises:
        CheckpointError: an output is missing.
        LlmrlError: the record cannot be written.
    """
    folder = pipeline.folder / stage.name
    for path in stage.acts.outputs.values():
        if not (folder / path).exists():
            raise CheckpointError(f"{folder}: stage {stage.name} has ended without its output {path}")
    _write(folder, {**read_json(folder / RECORD), "finished": True})


def set_aside(folder: Path) -> Path:
    """Rename a stage's folder; returns its new place.

    Raises:
        CheckpointError: it cannot be renamed.
    """
    taken = [path.name.rpartition(ASIDE)[2] for path in folder.parent.glob(f"{folder.name}{ASIDE}*")]
    number = 1 + max((int(text) for text in taken if text.isdigit()), default=0)
    place = folder.with_name(f"{folder.name}{ASIDE}{number}")
    try:
        folder.rename(place)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be renamed to {place.name}: {error.strerror}") from error
    return place


def hashes(pipeline: Pipeline, stage: Stage) -> dict[str, str]:
    """SHA-256 of everything that a stage's recipe names and that is there: outputs of other stages, files, folders.

    Raises:
        CheckpointError: one cannot be read.
    """
    paths = {str(reference): pipeline.output(reference) for reference in stage.references}
    paths |= {text: Path(text) for key, text in texts(stage.recipe) if _names_input(key, text)}
    return {name: digest(path) for name, path in paths.items()}


def digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder: names and contents of its files but for logs.

    Of a folder with checksums those files count that they name.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        if not path.is_dir():
            return _file_digest(path)
        total = hashlib.sha256()
        for name in sorted(checksums.sealed(path) or checksums.names(path)):
            if Path(name).parts[0] not in _LOGS:
                total.update(f"{name}\0{_file_digest(path / name)}\n".encode())
        return total.hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: an input of a stage cannot be read: {error}") from error


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names_input(key: str, text: str) -> bool:
    """True if a text of a recipe names a file or folder that is there; the name of a plug-in never does."""
    if key.rpartition(".")[2].partition("[")[0] in _NO_PATHS or text.strip("./") == "":
        return False
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def _changes(record: Mapping[str, Any], stage: Stage, inputs: Mapping[str, str]) -> Iterator[str]:
    """Differences between the stage that a folder holds and the one that is wanted."""
    if record.get("kind") != stage.kind:
        yield f"kind was {record.get('kind')}, is {stage.kind}"
    before, now = _leaves(record.get("recipe", {})), _leaves(stage.recipe)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            yield f"{key} was {before.get(key, 'unset')}, is {now.get(key, 'unset')}"
    kept = record.get("inputs", {})
    for name in sorted({*kept, *inputs}):
        if kept.get(name) != inputs.get(name):
            yield f"{name} is gone" if name not in inputs else f"{name} has changed"


def _leaves(value: Any, key: str = "") -> dict[str, Any]:
    """Values of nested sections by dotted key, without those that change nothing."""
    if isinstance(value, Mapping) and value:
        inner = [_leaves(each, f"{key}.{name}" if key else str(name)) for name, each in value.items()]
        return {name: leaf for leaves in inner for name, leaf in leaves.items()}
    return {} if key in _FREE else {key: value}


def _waiting(pipeline: Pipeline, stage: Stage, awaited: Sequence[str]) -> Standing:
    there = bool(read_json(pipeline.folder / stage.name / RECORD).get("finished"))
    after = "; runs again if what it reads changes" if there else ""
    return Standing(stage, "waits", f"for {', '.join(awaited)}{after}", {})


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    write_json(folder / RECORD, record)
    checksums.flush(folder / RECORD)
    checksums.flush(folder)


def lines(standings: Iterable[Standing]) -> list[str]:
    """The plan as a table of text, a stage a line."""
    rows = list(standings)
    width = max(len(row.stage.name) for row in rows)
    kinds = max(len(row.stage.kind) for row in rows)
    return [f"{r.stage.name:<{width}}  {r.stage.kind:<{kinds}}  {r.state:<7}  {r.why}".rstrip() for r in rows]
