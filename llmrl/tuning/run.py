"""Run the trials of a search, each an ordinary run in a process of its own, and write the front of the best."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl.datafiles import json_text
from llmrl.errors import DataError, LlmrlError
from llmrl.recipe import read as read_recipe
from llmrl.run_folder import reader
from llmrl.tuning import front
from llmrl.tuning.samplers import SAMPLERS, Past
from llmrl.tuning.space import Space
from llmrl.tuning.trial import Trial

TRIALS, RUNS, SPACE = "trials.jsonl", "runs", "space.json"


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """A search: a recipe, what varies in it, and where it is written."""

    recipe: Path
    space: Space
    out: Path
    overrides: Sequence[str] = ()
    launch: Sequence[str] = (sys.executable, "-m", "llmrl")  # what `train` follows
    seed: int = 0  # of the search, and not of the runs

    def run(self, trials: int, say: Callable[[str], None] = print) -> None:
        """Run trials until there are so many, those of an earlier call included; write the front after each.

        Raises:
            RecipeError: settings that make no recipe.
            LlmrlError: the first trial fails, or Optuna is wanted and missing.
            DataError: the folder holds another search, or a run has no such metric.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        done = self._earlier()
        while len(done) < trials:
            trial = self._trial(len(done), [(each.params, each.means) for each in done if each.values is not None])
            done.append(trial)
            with (self.out / TRIALS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(vars(trial)) + "\n")
            result = "failed" if trial.values is None else ", ".join(f"{value:.4g}" for value in trial.means)
            say(f"trial {trial.number}: {' '.join(trial.overrides)}: {result}")
            if trial.values is None and not any(each.values for each in done):
                raise LlmrlError(f"{self.out}: the first trial has failed, as said above; mend it, and remove {TRIALS}")
        front.write(self.out, self.space, done, self.command)

    def command(self, overrides: Sequence[str]) -> str:
        """The command that trains by some settings once more."""
        return shlex.join(["llmrl", "train", str(self.recipe), *self.overrides, *overrides])

    def _trial(self, number: int, past: Past) -> Trial:
        params = SAMPLERS[self.space.sampler](self.space, past, f"{self.seed}/{number}")
        overrides = self.space.overrides(params)
        values = [self._objectives(number, seed, overrides) for seed in self.space.seeds]
        known = [each for each in values if each is not None]
        return Trial(
            number=number,
            params=params,
            overrides=overrides,
            values=known if len(known) == len(values) else None,
        )

    def _objectives(self, number: int, seed: int, overrides: Sequence[str]) -> list[float] | None:
        """Train by some settings, and read the last value of each objective; None where the run has failed."""
        folder = self.out / RUNS / f"trial-{number:04d}-{seed}"
        settings = [*self.overrides, *overrides, f"train.seed={seed}"]
        settings += [f"train.output_dir={folder.parent}", f"train.run_name={folder.name}"]
        steps = read_recipe(self.recipe, settings).train.max_steps
        command = [*self.launch, "train", str(self.recipe), *settings, "--quiet"]
        with (self.out / "trials.log").open("ab") as log:
            resume = ["--resume"] if (folder / "checkpoints").is_dir() else []
            if subprocess.run([*command, *resume], stdout=log, stderr=log, check=False).returncode:
                return None
        last: dict[str, float] = {}
        for record in reader.steps(folder):
            last |= record.metrics
        missing = [name for name in self.space.objectives if name not in last]
        if missing:
            raise DataError(
                f"{folder}: no metric {missing[0]!r} in {steps} steps; known: {', '.join(sorted(last))}. Benchmarks "
                "need eval.benchmarks and eval.every"
            )
        return [last[name] for name in self.space.objectives]

    def _earlier(self) -> list[Trial]:
        """Trials of an earlier call.

        Raises:
            DataError: they are of another search.
        """
        told: dict[str, Any] = {
            "recipe": str(self.recipe),
            "overrides": list(self.overrides),
            "seed": self.seed,
            "space": json.loads(json.dumps(vars(self.space), default=vars)),
        }
        path = self.out / SPACE
        if path.exists() and json_text.parse(path.read_bytes(), str(path)) != told:
            raise DataError(f"{self.out}: holds another search, as {SPACE} says; choose another --out")
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        lines = (self.out / TRIALS).read_bytes().splitlines() if (self.out / TRIALS).exists() else []
        return [Trial(**json_text.parse(line, f"{self.out / TRIALS}:{i}")) for i, line in enumerate(lines, 1)]
