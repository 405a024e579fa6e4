"""A pipeline as a frozen value: YAML and overrides in, stages and their references out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from llmrl import recipe as recipes
from llmrl.errors import RecipeError
from llmrl.pipeline.kinds import KINDS, Kind
from llmrl.plugins import did_you_mean
from llmrl.recipe import STAGES

REFERENCE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_PLACES = ("output_dir", "run_name")


class OutputReference(NamedTuple):
    """An output of another stage, written `${stage.output}`."""

    stage: str
    output: str

    def __str__(self) -> str:
        return f"${{{self.stage}.{self.output}}}"


@dataclass(frozen=True)
class Stage:
    """A stage as it is written: its name, its kind, and its recipe with the references in it."""

    name: str
    kind: str
    recipe: Mapping[str, Any]

    @property
    def acts(self) -> Kind:
        """Its kind, which reads its recipe and runs it."""
        return KINDS[self.kind]

    @property
    def references(self) -> list[OutputReference]:
        """Outputs that its recipe names, each once, in order."""
        written = (match for _, text in texts(self.recipe) for match in REFERENCE.findall(text))
        return list(dict.fromkeys(OutputReference(*match.partition(".")[::2]) for match in written))


@dataclass(frozen=True)
class Pipeline:
    """Stages in the order in which they run, and the folder that holds a folder of each."""

    folder: Path
    stages: Sequence[Stage]

    def __getitem__(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    def output(self, reference: OutputReference) -> Path:
        """Place of a stage's output, which need not be there yet."""
        return self.folder / reference.stage / self[reference.stage].acts.outputs[reference.output]

    def resolved(self, stage: Stage) -> dict[str, Any]:
        """A stage's recipe with the paths of the outputs in the place of references."""

        def path(match: re.Match[str]) -> str:
            return str(self.output(OutputReference(*match[1].partition(".")[::2])))

        resolved: dict[str, Any] = _mapped(stage.recipe, lambda text: REFERENCE.sub(path, text))
        return resolved


def parse(values: Mapping[str, Any], where: str, name: str, overrides: Sequence[str] = ()) -> Pipeline:
    """A pipeline from plain values; every stage's recipe is checked, and nothing is read.

    Args:
        values: `stages`, a list, and `output_dir` and `run_name` of the pipeline's folder.
        where: with which the message of an error starts.
        name: of the folder, where there is no `run_name`.
        overrides: `stage.section.key=value`.
    Raises:
        RecipeError: a stage named twice, a reference to an unknown or later stage or to an output that it does not
            have, a cycle, or a recipe that its kind refuses.
    """
    if unknown := sorted(values.keys() - {STAGES, *_PLACES}):
        known = (STAGES, *_PLACES)
        raise RecipeError(
            f"{where}: {unknown[0]}: unknown key of a recipe of stages{did_you_mean(unknown[0], known)}; "
            f"known: {', '.join(known)}. Sections such as `model:` belong into a stage"
        )
    entries = values[STAGES]
    if not isinstance(entries, list) or not entries:
        raise RecipeError(f"{where}: stages: expected a list such as `- name: sft`, found {entries!r:.60}")
    stages = [_stage(entry, f"{where}: stages[{index}]") for index, entry in enumerate(entries)]
    for index, stage in enumerate(stages):
        if stage.name in {other.name for other in stages[:index]}:
            raise RecipeError(
                f"{where}: stages[{index}]: a second stage named {stage.name!r}; expected names that differ"
            )
    stages = _overridden(stages, overrides)
    folder = Path(str(values.get("output_dir") or "runs")) / str(values.get("run_name") or name)
    pipeline = Pipeline(folder, stages)
    for stage in stages:
        place = f"{where}: stage {stage.name}"
        _check_references(pipeline, stage, place)
        stage.acts.read(pipeline.resolved(stage), folder / stage.name, place)
    return pipeline


def texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in nested plain values, with its dotted key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, Sequence):
        for index, inner in enumerate(value):
            yield from texts(inner, f"{key}[{index}]")


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(inner, change) for key, inner in value.items()}
    return [_mapped(inner, change) for inner in value] if isinstance(value, list | tuple) else value


def _stage(entry: Any, where: str) -> Stage:
    """A stage from `{name: ..., <kind>: sections or the path of a recipe}`."""
    kinds = ", ".join(KINDS)
    if not isinstance(entry, Mapping):
        raise RecipeError(f"{where}: expected `name` and one of {kinds}, found {entry!r:.60}")
    name, chosen = entry.get("name"), [str(key) for key in entry if key != "name"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RecipeError(f"{where}: name: expected letters, digits, - and _, for a folder; found {name!r}")
    if len(chosen) != 1 or chosen[0] not in KINDS:
        hint = did_you_mean(chosen[0], KINDS) if len(chosen) == 1 else ""
        raise RecipeError(f"{where} ({name}): expected one of {kinds}; found {', '.join(chosen) or 'none'}{hint}")
    sections = entry[chosen[0]]
    if isinstance(sections, str):
        sections = recipes.tree(sections)
    if not isinstance(sections, Mapping):
        raise RecipeError(
            f"{where} ({name}): {chosen[0]}: expected sections, or the path of a recipe; found {sections!r:.60}"
        )
    return Stage(name, chosen[0], deepcopy(dict(sections)))


def _overridden(stages: Sequence[Stage], overrides: Sequence[str]) -> list[Stage]:
    named = {stage.name: stage for stage in stages}
    for text in overrides:
        name, _, rest = text.lstrip("-").partition(".")
        if name not in named or not rest:
            raise RecipeError(
                f"override {text!r}: expected stage.section.key=value with one of the stages {', '.join(named)}"
                f"{did_you_mean(name, named)}"
            )
        values = dict(named[name].recipe)
        recipes.override(values, rest)
        named[name] = Stage(name, named[name].kind, values)
    return list(named.values())


def _check_references(pipeline: Pipeline, stage: Stage, where: str) -> None:
    """Require that every reference is to an output of a stage before.

    Raises:
        RecipeError: the first that is not.
    """
    order = [other.name for other in pipeline.stages]
    before = order[: order.index(stage.name)]
    for reference in stage.references:
        name = reference.stage
        if name not in order:
            raise RecipeError(
                f"{where}: {reference}: no stage {name!r}{did_you_mean(name, order)}; before it: "
                f"{', '.join(before) or 'none'}"
            )
        if name not in before:
            if circle := _circle(pipeline, stage.name):
                raise RecipeError(f"{where}: {reference}: a cycle, {' <- '.join(circle)}; no stage may wait for itself")
            raise RecipeError(f"{where}: {reference}: stage {name} comes later; move it before {stage.name}")
        outputs = pipeline[name].acts.outputs
        there = " or ".join(str(OutputReference(name, output)) for output in outputs)
        if reference.output not in outputs:
            raise RecipeError(
                f"{where}: {reference}: a stage of kind {pipeline[name].kind} has no output {reference.output!r}"
                f"{did_you_mean(reference.output, outputs)}; expected {there}"
            )


def _circle(pipeline: Pipeline, start: str) -> list[str]:
    """Names of stages on a way from a stage along its references back to it; empty where there is none."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop()
        known = {stage.name for stage in pipeline.stages}
        for name in [reference.stage for reference in pipeline[way[-1]].references]:
            if name == start:
                return [*way, start]
            if name in known - seen:
                seen.add(name)
                ways.append([*way, name])
    return []
