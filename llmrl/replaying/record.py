"""The record of a run's steps: their episodes and metrics, where to begin, and what is missing to repeat them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llmrl.errors import DataError
from llmrl.recipe import Recipe, read
from llmrl.rollout.worker import RolloutWorker
from llmrl.run_folder import reader
from llmrl.run_folder.ownership import RECIPE
from llmrl.run_folder.records import ROLLOUTS
from llmrl.train.run_export import checkpoints_of, steps_of
from llmrl.types import Completion, Problem, Trajectory

NAMED = 3
"""Groups that a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Steps of a run as its folder has them, from the last checkpoint before a step to that step."""

    folder: Path
    recipe: Recipe
    begin: Path | None  # the checkpoint; None: the model as the run began
    steps: range  # that are repeated: the last is the one that was asked for
    metrics: Mapping[int, Mapping[str, float]]
    groups: Mapping[int, Mapping[str, Sequence[Trajectory]]]  # by step, then by name; none of stored answers
    bare: Mapping[int, int]  # episodes without their tokens, by step

    @classmethod
    def of(cls, folder: Path, step: int) -> Record:
        """Read what the folder has of a step, and of those between it and the checkpoint before it.

        Raises:
            DataError: it is no run's, or has not taken the step.
        """
        require_run(folder)
        recipe = read(folder / RECIPE)
        taken = {record.step: record.metrics for record in reader.steps(folder)}
        if step not in taken:
            there = f"it has steps {min(taken)} to {max(taken)}" if taken else "it has taken none"
            raise DataError(f"--step {step}: {folder} has no such step; {there}, counted from 0")
        begin = max((path for path in checkpoints_of(folder) if steps_of(path) <= step), default=None)
        steps = range(0 if begin is None else steps_of(begin), step + 1)
        groups: dict[int, dict[str, list[Trajectory]]] = {number: {} for number in steps}
        bare = dict.fromkeys(steps, 0)
        if recipe.source.plays and (folder / ROLLOUTS).exists():
            for record in reader.episodes(folder, steps):
                groups[record.step].setdefault(record.trajectory.group, []).append(record.trajectory)
                bare[record.step] += not record.has_tokens
        metrics = {number: taken[number] for number in steps if number in taken}
        return cls(folder=folder, recipe=recipe, begin=begin, steps=steps, metrics=metrics, groups=groups, bare=bare)

    @property
    def step(self) -> int:
        """The step that was asked for."""
        return self.steps[-1]

    @property
    def after(self) -> Path | None:
        """The checkpoint behind the step; None where it was not kept."""
        return next((path for path in checkpoints_of(self.folder) if steps_of(path) == self.step + 1), None)

    @property
    def played(self) -> dict[str, Sequence[Trajectory]]:
        """The groups of all steps that are repeated, by name."""
        return {name: group for groups in self.groups.values() for name, group in groups.items()}

    def missing(self) -> list[str]:
        """Tell what of the steps was not recorded; nothing where they can be repeated to the last bit."""
        lacks = [f"step {number}: {reason}" for number in self.steps for reason in self._lacking(number)]
        return [*lacks, *self._never_logged()]

    def _lacking(self, step: int) -> Iterator[str]:
        """Tell what a step lacks."""
        if step not in self.metrics:
            yield "no line in metrics.jsonl"
            return
        if not self.recipe.source.plays:
            return  # its rows are in the data
        rollout, groups = self.recipe.rollout, self.groups[step]
        if not groups:
            share = f" (rollout.log_completions is {rollout.log_completions:g})" if rollout.log_completions < 1 else ""
            yield f"no episodes in rollouts.jsonl{share}"
            return
        short = [name for name, group in groups.items() if len(group) < rollout.num_generations]
        if short:
            yield (
                f"{len(short)} of {len(groups)} groups have fewer than {rollout.num_generations} episodes in "
                f"rollouts.jsonl, such as {', '.join(short[:NAMED])} (rollout.log_completions is "
                f"{rollout.log_completions:g})"
            )
        if bare := self.bare[step]:
            yield f"{bare} episodes without their tokens (rollout.log_tokens_mb is {rollout.log_tokens_mb:g})"
        elif not short:
            turns = [turn for group in groups.values() for episode in group for turn in episode.turns]
            tokens = sum(len(turn.prompt_ids) + len(turn.completion.token_ids) for turn in turns)
            logged = self.metrics[step].get("num_tokens", tokens)
            if tokens != logged:
                yield f"{tokens} tokens in rollouts.jsonl, and the step had {logged:g}: not all groups are there"

    def _never_logged(self) -> Iterator[str]:
        """Tell what no record has, and the run's options use."""
        if getattr(self.recipe.engine, "return_kept_ids", False):
            yield "the ids that top_p left at each token (engine.return_kept_ids), which are not logged"
        if getattr(self.recipe.source, "proposals", 0):
            yield "the turns that the policy proposed at states of the buffer (source.proposals), which are not logged"

    def require_whole(self) -> None:
        """Refuse a record of which something is missing.

        Raises:
            DataError: names all that is.
        """
        if lacks := self.missing():
            listed = "".join(f"\n  {reason}" for reason in lacks[:12])
            more = f"\n  and {len(lacks) - 12} more" if len(lacks) > 12 else ""
            raise DataError(
                f"{self.folder}: step {self.step} cannot be repeated{_from(self)}; missing:{listed}{more}\nA run whose "
                "steps can be has rollout.log_completions=1 and a large rollout.log_tokens_mb; with train.save_steps=1 "
                "and a large train.save_total_limit each begins at its own checkpoint"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedWorker(RolloutWorker):
    """Plays nothing: gives the groups that a run has recorded, to sources that draw them by name."""

    recorded: Mapping[str, Sequence[Trajectory]]

    async def run_group(self, problem: Problem, group: str, prefix_ids: Sequence[int] = ()) -> list[Trajectory]:
        """The episodes of a group, of the problem that was drawn.

        Raises:
            DataError: the group was not recorded.
        """
        if group not in self.recorded:
            raise DataError(
                f"group {group}: not in the record: the data or the recipe draw other problems than the run did"
            )
        return [replace(episode, problem=problem) for episode in self.recorded[group]]

    async def complete(self, prompts: Sequence[Sequence[int]], names: Sequence[str]) -> list[Completion]:
        """Refuse to generate where anything is asked for.

        Raises:
            DataError: it is.
        """
        if prompts:
            raise DataError("source.proposals: turns that the policy proposed are not recorded")
        return []


def require_run(folder: Path) -> None:
    """Refuse what is no folder of a run.

    Raises:
        DataError: it is none.
    """
    if not (folder / RECIPE).is_file():
        raise DataError(f"{folder}: no folder of a run: no {RECIPE}; expected one such as runs/demo")


def _from(record: Record) -> str:
    if len(record.steps) == 1:
        return ""
    place = "the model that the run began with" if record.begin is None else record.begin.name
    before = len(record.steps) - 1
    return f" from {place}, {before} step{'s' if before > 1 else ''} before it"
