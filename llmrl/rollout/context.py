"""Everything that a source is started with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmrl.chat import Chat
from llmrl.recipe import RolloutOptions
from llmrl.rollout.worker import RolloutWorker
from llmrl.types import Problem, Trajectory

Groups = list[list[Trajectory]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceContext:
    """Context of a source: what it generates with or reads from, its options, seed and ranks, and the run's folder."""

    chat: Chat
    options: RolloutOptions
    seed: int
    rank: tuple[int, int] = (0, 1)  # which, of how many
    gather: Callable[[Groups], Groups] = lambda groups: groups  # the groups of all ranks
    folder: Path = Path()  # of the run
    problems: Sequence[Problem] = ()  # of the recipe's data
    worker: RolloutWorker | None = None  # None for a source that does not play: no engine runs for it
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Of the models that fill columns in this run, by filler; see `llmrl.run_folder.fingerprint`."""

    @property
    def player(self) -> RolloutWorker:
        """The worker, for a source that plays."""
        assert self.worker is not None, "a source is started with a worker only where its `plays` is True"
        return self.worker
