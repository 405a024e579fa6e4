"""What training, evaluating and generating return: objects over the files of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from llmrl.errors import CheckpointError
from llmrl.evaluation.records import read_json
from llmrl.evaluation.statistics import Estimate
from llmrl.recipe import Recipe, read
from llmrl.run_folder import reader
from llmrl.run_folder.inputs import MANIFEST
from llmrl.run_folder.ownership import RECIPE
from llmrl.run_folder.records import METRICS, EpisodeRecord
from llmrl.types import Trajectory


class Metrics(Sequence[Mapping[str, float]]):
    """The metrics of a run: `metrics[-1]` is the last step's, `metrics["reward"]` a number for each step that has it.

    Args:
        steps: one mapping a step, in their order; `metrics.jsonl` of the run.
    """

    def __init__(self, steps: Sequence[Mapping[str, float]]) -> None:
        self._steps = steps

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, index: str) -> list[float]: ...
    @overload
    def __getitem__(self, index: int) -> Mapping[str, float]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, float]]: ...
    def __getitem__(self, index: str | int | slice) -> Any:
        if isinstance(index, str):
            return [step[index] for step in self._steps if index in step]
        return self._steps[index]

    def names(self) -> list[str]:
        """Names of all metrics, sorted."""
        return sorted({name for step in self._steps for name in step})

    def __repr__(self) -> str:
        return f"Metrics({len(self)} steps of {len(self.names())} metrics)"


@dataclass(frozen=True)
class Evaluated:
    """The result of a benchmark, and the folder with its answers."""

    name: str
    folder: Path
    result: Mapping[str, Any] = field(repr=False)  # as results.json has it

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Estimates by name, each with its 95 % interval: `avg@1`, `pass@8`; the mean of a reward without verdicts."""
        return {name: Estimate(**numbers) for name, numbers in self.result["metrics"].items()}

    @property
    def parts(self) -> dict[str, float]:
        """Means of the parts of the reward."""
        return dict(self.result["parts"])

    @property
    def value(self) -> float:
        """The mean share of right answers; of a reward without verdicts its mean."""
        return next(iter(self.metrics.values())).value

    def answers(self) -> Iterator[Mapping[str, Any]]:
        """Every answer with its verdict, lazily: the lines of `<benchmark>.jsonl`."""
        with (self.folder / f"{self.name}.jsonl").open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    def __str__(self) -> str:
        numbers = (
            f"{name} {each.value:.3f} ({each.low:.3f} to {each.high:.3f})" for name, each in self.metrics.items()
        )
        parts = (f"{name} {mean:.3f}" for name, mean in self.parts.items())
        return f"{self.name}: {', '.join([*numbers, *parts])}"


def evaluated_in(folder: Path) -> dict[str, Evaluated]:
    """The results in a folder, by benchmark."""
    return {name: Evaluated(name, folder, result) for name, result in read_json(folder / "results.json").items()}


@dataclass(frozen=True)
class Generation:
    """An answer to a prompt."""

    prompt: Any  # as it was given
    text: str
    trajectory: Trajectory = field(repr=False)  # the tokens that were fed and sampled, with their log-probabilities

    @property
    def token_ids(self) -> list[int]:
        """Ids that were sampled."""
        return [token for turn in self.trajectory.turns for token in turn.completion.token_ids]

    @property
    def logprobs(self) -> list[float]:
        """Log-probabilities of those ids, by the engine."""
        return [number for turn in self.trajectory.turns for number in turn.completion.logprobs]

    @property
    def finish(self) -> str:
        """`stop`, `length` or `abort`."""
        return self.trajectory.turns[-1].completion.finish if self.trajectory.turns else "abort"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class TrainedRun:
    """A run and its files, while it trains or afterwards; nothing is read before it is asked for."""

    folder: Path
    is_main: bool = True  # of the processes of a launch, the one that writes

    @property
    def final(self) -> Path:
        """The trained model: a Hugging Face folder.

        Raises:
            CheckpointError: the run has not ended.
        """
        if not (self.folder / "final" / "config.json").is_file():
            raise CheckpointError(f"{self.folder}: no final/ there: the run has not ended; its checkpoints: .model()")
        return self.folder / "final"

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe, every default spelled out."""
        return read(self.folder / RECIPE)

    @property
    def manifest(self) -> Mapping[str, Any]:
        """Versions, seeds, hashes, hardware and how the run ended."""
        found: Mapping[str, Any] = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        return found

    @property
    def metrics(self) -> Metrics:
        """The metrics of all steps so far."""
        if not (self.folder / METRICS).exists():
            return Metrics([])
        return Metrics([{"step": record.step, **record.metrics} for record in reader.steps(self.folder)])

    @property
    def evaluations(self) -> dict[int, dict[str, Evaluated]]:
        """Evaluations during the run: by steps that were taken, then by benchmark."""
        found = sorted((self.folder / "eval").glob("step-*"))
        return {int(path.name.removeprefix("step-")): evaluated_in(path) for path in found}

    def episodes(self) -> Iterator[EpisodeRecord]:
        """Every logged episode, lazily, with its tokens, score and advantage."""
        return reader.episodes(self.folder)

    def model(self, step: int | str | None = None) -> Path:
        """The model folder after so many steps, `best` by eval or `final`; exported where it is not there yet.

        Raises:
            CheckpointError: no such checkpoint was kept; names those that are there.
        """
        from llmrl.train.run_export import model_of

        return model_of(self.folder, None if step is None else str(step), say=lambda _told: None)

    def evaluate(self, benchmarks: str | Sequence[str] = (), **options: Any) -> dict[str, Evaluated]:
        """Evaluate the trained model: `llmrl.evaluate(run.final, ...)`."""
        from llmrl.api.asking import evaluate

        return evaluate(self, benchmarks, **options)

    def generate(self, prompts: Any, **options: Any) -> list[Generation]:
        """Answer prompts by the trained model: `llmrl.generate(run.final, ...)`."""
        from llmrl.api.asking import generate

        return generate(self, prompts, **options)
