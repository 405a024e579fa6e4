"""Records of a run: the metrics of a step, its files, its trackers, and its observers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import yaml

from llmrl.errors import Stopped
from llmrl.ops.mismatch import step_metrics
from llmrl.protocols import Source
from llmrl.recipe import Recipe
from llmrl.recipe.trackers import beginnings
from llmrl.rollout.concerted import concerted
from llmrl.run_folder.inputs import require_same
from llmrl.run_folder.manifest import manifest
from llmrl.run_folder.writer import Logs
from llmrl.train import tables
from llmrl.train.metrics import fit_metrics, rollout_metrics
from llmrl.train.normaliser import RewardNormaliser
from llmrl.train.parallel import gather, zero_stage
from llmrl.train.parts import Clock, FinishedStep, metric_prefix
from llmrl.train.policies import PolicyStep
from llmrl.types import Trajectory

log = logging.getLogger(__name__)
OnStep = Callable[[int, Mapping[str, float], Sequence[Sequence[Trajectory]]], None]
"""Called on the main process with a step, its metrics and its groups of episodes."""


@dataclass
class Recorder:
    """Puts steps into numbers, and writes them: metrics.jsonl, rollouts.jsonl, recipe, manifest, trackers."""

    recipe: Recipe
    accelerator: Any
    logs: Logs
    clock: Clock
    source: Source
    normaliser: RewardNormaliser
    on_step: OnStep | None
    _manifest: dict[str, Any] = field(default_factory=dict, init=False)

    def describe(self, *, resumes: bool) -> None:
        """Put together the manifest; of a run that goes on it is compared with the one that is there. Collective.

        Raises:
            CheckpointError: the data or a model's folder is another than that of the steps before.
        """
        processes, stage = self.accelerator.num_processes, zero_stage(self.accelerator)
        self._manifest = manifest(self.recipe, self.source.data, processes, stage)

        def compared() -> None:
            if not (resumes and self.accelerator.is_main_process):
                return
            for name in require_same(self.logs.folder, self._manifest):
                log.warning(f"{name} has changed since the run began: its steps from here on are by the new one")

        concerted(compared, partial(gather, world=processes))

    def open(self, first_step: int, started: ExitStack) -> None:
        """Begin the run's files and trackers, from its first step on; `started` closes the trackers."""
        recipe = self.recipe
        self.logs.forget_from(first_step)
        self.logs.text("recipe.yaml", yaml.safe_dump(recipe.as_dict(), sort_keys=False, allow_unicode=True))
        self.status("running", start=first_step)
        if recipe.train.trackers:
            run = beginnings(self.logs.folder.name, recipe.as_dict())
            self.accelerator.init_trackers("llmrl", init_kwargs=run)
            for tracker in self.accelerator.trackers:
                started.callback(tracker.finish)

    def status(self, status: str, **more: int) -> None:
        """Write manifest.json anew: running, finished, or stopped and why."""
        self.logs.write("manifest.json", self._manifest | {"status": status, **more})

    def stopped(self, error: BaseException) -> None:
        """Write down what ended the run, and where it came from: manifest.json, and errors.log for a traceback."""
        if isinstance(error, Stopped):
            self.status(f"stopped: {error}", steps=error.steps)
        elif isinstance(error, KeyboardInterrupt):
            self.status("stopped: SIGINT")
        else:
            self.status(f"stopped: {type(error).__name__}: {error}")
            self.logs.error(self.accelerator.process_index, error)

    def measured(self, step: int, learned: Sequence[PolicyStep]) -> FinishedStep:
        """The step in numbers.

        Args:
            step: of the loop.
            learned: what each policy has made of it.
        """
        groups = self.source.played
        turns = [turn for group in groups for episode in group for turn in episode.turns]
        metrics = {"num_tokens": float(sum(len(turn.prompt_ids) + len(turn.completion.token_ids) for turn in turns))}
        metrics |= rollout_metrics(groups) | fit_metrics([update for each in learned for update in each.updates])
        metrics |= self.source.metrics
        for each in learned:
            metrics |= policy_metrics(each, step, played=bool(self.source.played))
        metrics |= self.normaliser.metrics()
        seconds = self.clock.step_seconds
        metrics |= {"step_time": seconds, "perf/tokens_per_sec": metrics["num_tokens"] / max(1e-9, seconds)}
        samples = [sample for each in learned for sample in each.policy.learners.with_noted(each.samples)]
        return FinishedStep(step=step, samples=samples, groups=groups, metrics=metrics)

    def after_step(self, finished: FinishedStep) -> None:
        """Write the step, with everything that the parts before have added to it."""
        step, groups = finished.step, finished.groups
        finished.metrics |= {**self.clock.metrics(), **self.source.timings()}
        self.logs.rollouts(step, groups, finished.samples, finished.audited)
        self.logs.metrics(step, finished.metrics)
        self.accelerator.log(finished.metrics, step=step)
        if self.accelerator.is_main_process and self.accelerator.trackers:
            shown = tables.completions(step, groups, finished.samples, self.recipe.train.table_rows)
            tables.log_completions(self.accelerator.trackers, step, shown)
        if self.on_step is not None and self.accelerator.is_main_process:
            self.on_step(step, finished.metrics, groups)


def policy_metrics(learned: PolicyStep, step: int, *, played: bool) -> dict[str, float]:
    """Numbers of a policy alone: its sync, its mismatch, its algorithm's of the whole step.

    Args:
        learned: what the policy has made of the step.
        step: of the loop.
        played: the step's episodes were generated for it; stored answers are of other weights, too.
    """
    fresh = [sample for sample in learned.samples if sample.origin == "fresh"]  # not of other weights, nor unplayed
    numbers = dict(learned.policy.sync.metrics)
    numbers |= step_metrics(fresh, version=step) if played else {}
    numbers |= learned.policy.adaptation.metrics
    return {metric_prefix(learned.policy.agent) + name: number for name, number in numbers.items()}
