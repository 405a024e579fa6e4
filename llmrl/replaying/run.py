"""Command `llmrl replay`: a step again, compared with what its run recorded, and under other algorithms and rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrl.errors import RecipeError
from llmrl.recipe import Recipe, override, parse
from llmrl.replaying.comparison import Comparison, compare, episodes
from llmrl.replaying.outcome import ModelState, StepOutcome, outcome, states_of, under
from llmrl.replaying.record import Record
from llmrl.replaying.reopened import Reopened, compare_weights, reopen
from llmrl.replaying.rewards import Rescored, rescore
from llmrl.samples import Sample

RECORDED = "as recorded"
FREE = ("algorithm", "critic", "reward", "train")
"""Sections that may be others than the run's: they decide what is learned from episodes that have been played."""


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """Another recipe for the same episodes."""

    label: str
    recipe: Recipe
    rescores: bool = False  # its reward is another


@dataclass(frozen=True, kw_only=True)
class ReplayedStep:
    """A repeated step: what it did, how that differs from the record, and what alternatives would have done."""

    record: Record
    notes: Sequence[str]
    outcome: StepOutcome
    metrics: Mapping[str, tuple[float, float]]  # those that differ from the record, each with the recorded value
    compared: int  # metrics that the record has, too
    weights: Mapping[str, float] | None  # largest difference of each from the checkpoint behind the step, if it is kept
    samples: Sequence[Sample]
    comparisons: Sequence[Comparison]
    rescored: Mapping[str, Sequence[Rescored]] = field(default_factory=dict)  # by alternative
    text: Any = None  # makes text of ids

    @property
    def same(self) -> bool:
        """True if nothing differs from the record."""
        return not self.metrics and not any((self.weights or {}).values())

    def to_json(self) -> dict[str, Any]:
        """Everything that was found, as the viewer reads it: see docs/replay.md."""
        after = self.record.after
        recorded = compare(self.outcome, self.outcome)
        return {
            "run": str(self.record.folder),
            "step": self.record.step,
            "begins": None if self.record.begin is None else self.record.begin.name,
            "steps_between": len(self.record.steps) - 1,
            "same": self.same,
            "notes": list(self.notes),
            "metrics_compared": self.compared,
            "metrics_differing": {name: {"recorded": was, "now": now} for name, (was, now) in self.metrics.items()},
            "weights": None
            if self.weights is None or after is None
            else {"checkpoint": after.name, "tensors": len(self.weights), "largest": max(self.weights.values())},
            "algorithms": [each.summary() for each in (recorded, *self.comparisons)],
            "verdicts": {label: [pair.to_json() for pair in pairs] for label, pairs in self.rescored.items()},
            "episodes": episodes(self.samples, [self.outcome, *(each.outcome for each in self.comparisons)], self.text),
        }


def replay(folder: Path, step: int, alternatives: Sequence[Alternative] = ()) -> ReplayedStep:
    """Repeat a step of a run, and take it under alternatives.

    Raises:
        DataError: the record is not whole; names what is missing.
        CheckpointError: data or models are others than the run's.
        RecipeError: an alternative cannot learn from these episodes.
    """
    opened = reopen(Record.of(folder, step))
    try:
        samples = opened.begin()
        states = states_of(opened.policies[0].learners) if alternatives else {}
        first = outcome(opened, samples, RECORDED)
        after = opened.record.after
        weights = None if after is None else compare_weights(opened, after)
        tried = [_try(opened, alternative, states, samples) for alternative in alternatives]
    finally:
        opened.close()
    was = opened.record.metrics[step]
    both = {name: (was[name], now) for name, now in first.metrics.items() if name in was}
    return ReplayedStep(
        record=opened.record,
        notes=opened.notes,
        outcome=first,
        metrics={name: pair for name, pair in both.items() if not _equal(*pair)},
        compared=len(both),
        weights=weights,
        samples=samples,
        comparisons=[compare(first, result) for result, _ in tried],
        rescored={result.label: pairs for result, pairs in tried if pairs is not None},
        text=opened.chat.tokenizer.decode,
    )


def alternatives_of(
    recipe: Recipe, algorithms: Sequence[Any], options: Sequence[str], reward: Any, overrides: Sequence[str]
) -> list[Alternative]:
    """The alternatives that a command asks for: one for each algorithm, one for the reward, one for all overrides.

    Args:
        algorithms: names or specs.
        options: `key=value` of each of them, or of the run's own algorithm where there is none.
        reward: a name or a spec; None: the run's.
        overrides: `section.key=value` over the run's recipe.
    Raises:
        RecipeError: one of them does not fit, or changes what was played.
    """
    made = []
    for given in algorithms:
        values = recipe.as_dict()
        values["algorithm"] = {"name": given} if isinstance(given, str) else dict(given)
        made.append(
            _alternative(recipe, values, [f"algorithm.{text}" for text in options], _told(values["algorithm"], options))
        )
    if options and not algorithms:
        overrides = [*(f"algorithm.{text}" for text in options), *overrides]
    if reward is not None:
        values = recipe.as_dict()
        values["reward"] = {"name": reward} if isinstance(reward, str) else dict(reward)
        made.append(_alternative(recipe, values, (), f"reward {_told(values['reward'], ())}"))
    if overrides:
        made.append(_alternative(recipe, recipe.as_dict(), overrides, " ".join(overrides)))
    return made


def _alternative(recipe: Recipe, values: dict[str, Any], overrides: Sequence[str], label: str) -> Alternative:
    """Another recipe of plain values and overrides.

    Raises:
        RecipeError: it is none, or changes more than `FREE`.
    """
    for text in overrides:
        section = text.lstrip("-").partition("=")[0].partition(".")[0]
        if section == "algorithm" and text.lstrip("-").startswith("algorithm.name="):
            values["algorithm"] = {}  # options of another algorithm are not its own
        override(values, text)
    made = parse(values, "replay")
    before, now = recipe.as_dict(), made.as_dict()
    if others := [section for section in now if section not in FREE and before[section] != now[section]]:
        raise RecipeError(
            f"{label}: changes {', '.join(others)}, and the episodes have been played; expected changes of "
            f"{', '.join(FREE)}"
        )
    return Alternative(label=label, recipe=made, rescores=before["reward"] != now["reward"])


def _try(
    opened: Reopened, alternative: Alternative, states: Mapping[str, ModelState], samples: Sequence[Sample]
) -> tuple[StepOutcome, list[Rescored] | None]:
    """Take the step under an alternative; its outcome, and the episodes' new scores where its reward is another."""
    pairs = None
    if alternative.rescores and alternative.recipe.reward is not None:
        pairs, samples = rescore(opened, alternative.recipe.reward)
    other, fresh = under(opened, alternative.recipe, states)
    return outcome(other, samples, alternative.label, fresh), pairs


def _told(spec: Mapping[str, Any], options: Sequence[str]) -> str:
    """A plug-in and its options in a line."""
    given = [f"{name}={value}" for name, value in spec.items() if name != "name"]
    return " ".join([str(spec["name"]), *given, *options])


def _equal(left: float, right: float) -> bool:
    return left == right or (left != left and right != right)
