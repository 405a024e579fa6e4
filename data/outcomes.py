"""Episodes of a run as questions of success, for the judge that the reward `success_model` asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmrl.errors import DataError
from llmrl.reward_models.outcomes import NO, YES, question
from llmrl.run_folder import reader
from llmrl.types import Problem


@dataclass(frozen=True)
class Outcomes:
    """Task, actions and final state of each episode that a verifier has judged; the answer is YES or NO."""

    path: str  # the folder of a run, or its rollouts.jsonl

    def problems(self) -> Iterator[Problem]:
        """Yield the judged episodes in their order.

        Raises:
            DataError: a line is no record of an episode, or none was judged.
        """
        judged = 0
        for number, record in enumerate(reader.episodes(Path(self.path))):
            played = record.trajectory
            if played.score is None or played.score.correct is None or not played.turns:
                continue
            judged += 1
            answer = YES if played.score.correct else NO
            yield Problem(id=f"outcome/{number}", messages=question(played), answer=answer)
        if not judged:
            raise DataError(f"{self.path}: no episode that was judged right or wrong; expected a reward with verdicts")


plugin = Outcomes
