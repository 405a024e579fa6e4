"""Guards that end a run early: too many updates in a row that are not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmrl.errors import TrainingError
from llmrl.run_folder.writer import Logs
from llmrl.samples import Sample
from llmrl.train.learner import OptimStep


class UpdateGuard:
    """Keeps the samples of updates that were skipped, and stops the run after too many of a model in a row.

    Args:
        logs: where the samples go.
        most: skipped updates of a model in a row that stop the run.
    """

    def __init__(self, logs: Logs, most: int) -> None:
        self._logs = logs
        self._most = most
        self._in_a_row: dict[str, int] = {}  # by model: one that learns on hides no other that does not

    def __call__(self, step: int, samples: Sequence[Sample], update: OptimStep) -> OptimStep:
        """The update as it came, once it is counted.

        Args:
            step: of the loop.
            samples: that the update was made on.
            update: applied, or skipped because its loss or gradient was not finite.
        Raises:
            TrainingError: too many in a row were skipped; names the last one's samples and their file.
        """
        if update.applied:
            self._in_a_row[update.model] = 0
            return update
        in_a_row = self._in_a_row[update.model] = self._in_a_row.get(update.model, 0) + 1
        path = self._logs.rows(f"nonfinite-step-{step}.jsonl", samples)
        if in_a_row >= self._most:
            names = sorted({sample.group for sample in samples})
            raise TrainingError(
                f"step {step}: {in_a_row} updates in a row of the {update.model} had a loss or gradient that is not "
                f"finite and were skipped; the rows of the last are in {path} ({len(samples)} rows of "
                f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''}). Lower train.learning_rate or "
                "train.max_grad_norm, or look at those rows' rewards and log-probabilities"
            )
        return update

    def state(self) -> dict[str, Any]:
        return dict(self._in_a_row)

    def restore(self, state: Mapping[str, Any]) -> None:
        self._in_a_row = {model: int(number) for model, number in state.items()}
