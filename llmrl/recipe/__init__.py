"""A run, as one frozen value: YAML and overrides in, `Recipe` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from llmrl.errors import RecipeError
from llmrl.plugins import build_held, construct, options_of
from llmrl.protocols import Fitted
from llmrl.recipe import checks, yaml_text
from llmrl.recipe.hints import require_placed
from llmrl.recipe.options import (
    PLUGINS,
    AuditOptions,
    CriticOptions,
    EvalOptions,
    ModelOptions,
    RolloutOptions,
    Sections,
    Spec,
    TrainOptions,
)

STAGES = "stages"
"""The key of a recipe that is a list of stages; see `llmrl.pipeline.stages`."""

__all__ = [
    "PLUGINS",
    "STAGES",
    "AuditOptions",
    "CriticOptions",
    "EvalOptions",
    "ModelOptions",
    "Recipe",
    "RolloutOptions",
    "Spec",
    "TrainOptions",
    "override",
    "parse",
    "read",
    "tree",
]


@dataclass(frozen=True, kw_only=True)
class Recipe(Sections):
    """Everything that decides a run. Equal recipes on equal machines give equal runs.

    Its plug-ins are built, and it fits: whichever way a recipe comes about, `parse`, `replace` or by hand, what
    contradicts itself is refused. A plug-in may be given as a spec, `algorithm={"name": "grpo"}`, and is built from it.

    Raises:
        RecipeError: the first contradiction between sections; see `llmrl.recipe.checks`.
    """

    def __post_init__(self) -> None:
        build_held(self)
        hints = get_type_hints(type(self))
        for section in PLUGINS:
            value = getattr(self, section)
            if not isinstance(value, hints[section]):
                raise RecipeError(
                    f"{section}: {value!r:.60} lacks what llmrl/protocols.py asks of a plug-in of that kind"
                )
        if isinstance(self.algorithm, Fitted):
            try:
                object.__setattr__(self, "algorithm", self.algorithm.fitted(self.rollout.max_completion_length))
            except ValueError as error:
                raise RecipeError(f"algorithm: {error}") from None
        checks.check(self)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for YAML: every default spelled out. `parse` makes an equal recipe of them."""
        return options_of(self)


def read(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with `section.key=value` overrides applied.

    Raises:
        RecipeError: no such file, not YAML, or as `parse`; names file and key.
    """
    return parse(tree(path, overrides), str(path))


def tree(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The plain values of a YAML file of sections, with `section.key=value` overrides applied.

    Raises:
        RecipeError: no such file, not YAML, or not sections.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}; `llmrl recipes` lists those that ship") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text: {error}; expected YAML") from None
    values = yaml_text.parse(text, str(path))
    if not isinstance(values, dict):
        found = "nothing" if values is None else type(values).__name__
        raise RecipeError(f"{path}: expected sections such as `model:` and `data:`, found {found}")
    for text in overrides:
        override(values, text)
    return values


def parse(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from plain values, its plug-ins built; none is started, and no data is read.

    Raises:
        RecipeError: an unknown key or plug-in, a value of the wrong type, or sections that do not fit; starts with
            `where`.
    """
    require_placed(values, where)
    recipe: Recipe = construct(Recipe, values, f"{where}:")
    return recipe


def override(values: dict[str, Any], text: str) -> None:
    """Set one `section.key=value`; the value is read as YAML.

    Raises:
        RecipeError: no equals sign, a parent that is no section, or no YAML.
    """
    path, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"override {text!r}: expected section.key=value, such as train.learning_rate=2e-6")
    *parents, last = path.lstrip("-").split(".")
    node = values
    if len(parents) == 1 and isinstance(name := values.get(parents[0]), str) and parents[0] in PLUGINS:
        values[parents[0]] = {"name": name}
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise RecipeError(f"override {text!r}: {parent} holds {child!r}; expected a section with keys")
        node = child
    node[last] = yaml_text.parse(value, f"override {text!r:.80}")
