"""A ring buffer of episodes, counted in turns, whose files lie beside the run: one for each step, never changed."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isnan
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from llmrl.errors import CheckpointError
from llmrl.ops.credit import by_group
from llmrl.rollout import replay_file
from llmrl.samples import Sample, prompt_hash

EARLIER = -1
"""Step of the episodes of earlier runs."""


@dataclass(frozen=True, slots=True)
class StoredEpisode:
    """An episode that was played, as samples."""

    samples: Sequence[Sample]
    step: int  # that played it
    turns: int  # with at least one token
    prompt: bytes  # hash of the tokens before its first action

    @classmethod
    def of(cls, samples: Sequence[Sample], step: int) -> StoredEpisode:
        return cls(samples, step, sum(len(_turns(sample)) for sample in samples), prompt_hash(samples[0]))

    @property
    def earned(self) -> float:
        """Sum of the score and of the rewards of turns."""
        return self.samples[0].reward

    def observation(self, number: int) -> Sequence[int]:
        """Tokens of the state before a turn, by its place among those with tokens."""
        for sample in self.samples:
            turns = _turns(sample)
            if number < len(turns):
                before = int(np.argmax(sample.turn_ids == turns[number]))
                return array("i", sample.token_ids[:before].tobytes())
            number -= len(turns)
        raise IndexError(number)


class ReplayBuffer:
    """The newest episodes with at most `capacity` turns together; what is drawn from it follows from the seed alone.

    Args:
        folder: of its files, `step-000012.safetensors`. They are never changed, so a checkpoint holds their names
            alone; those of steps that are taken again are removed.
        capacity: turns. The newest episode stays even where it has more.
        writes: False where another process writes the files.
        first_success: only the first episode of a prompt that earned something is remembered, while it is there; each
            is drawn at most once.
        earlier: samples of earlier runs, which it begins with and does not write.
    """

    def __init__(
        self,
        folder: Path,
        capacity: int,
        writes: bool,
        first_success: bool = False,
        earlier: Sequence[Sample] = (),
    ) -> None:
        self._folder = folder
        self._capacity = capacity
        self._writes = writes
        self._first_success = first_success
        self.episodes: list[StoredEpisode] = []
        self.turns = 0
        self._sums: dict[int, str] = {}  # of the files, by step
        self._marked: tuple[list[StoredEpisode], int, dict[int, str]] = ([], 0, {})
        self._earlier = self._worth_keeping(earlier)
        self._add(EARLIER, self._earlier)

    def extend(self, step: int, samples: Sequence[Sample]) -> None:
        """Add the episodes of a step, but for those that nobody could judge; the oldest leave.

        Raises:
            CheckpointError: the disk is full or not writable.
        """
        kept = self._worth_keeping(samples)
        self._add(step, kept)
        if kept:
            self._sums[step] = replay_file.write(self._path(step), kept) if self._writes else ""

    def draw(
        self, step: int, turns: int, quantile: float, random: Random, by_prompt: bool = False
    ) -> list[StoredEpisode]:
        """Draw episodes with replacement, all alike, as many as have this number of turns on average.

        Each turn is so drawn equally often, in expectation: an average over the turns of what was drawn is one over
        those of the buffer.

        Args:
            step: now; where first successes alone are kept, only those of earlier steps are drawn.
            turns: that are wanted.
            quantile: only episodes whose return reaches this quantile of all are drawn, at least one; 0: all.
            random: decides.
            by_prompt: the quantile is one of each prompt's own returns.
        """
        pool = self._best(quantile, by_prompt)
        if self._first_success:
            pool = [episode for episode in pool if episode.step < step]
        if not pool or not turns:
            return []
        mean = sum(episode.turns for episode in pool) / len(pool)
        count = ceil(turns / mean)
        if self._first_success:
            return random.sample(pool, min(count, len(pool)))
        return random.choices(pool, k=count)

    def observations(self, count: int, random: Random) -> list[Sequence[int]]:
        """Draw states before turns with replacement, all turns alike."""
        if not self.turns:
            return []
        drawn = random.choices(self.episodes, weights=[episode.turns for episode in self.episodes], k=count)
        return [episode.observation(random.randrange(episode.turns)) for episode in drawn]

    def mark(self) -> None:
        """Remember the buffer before a step, for `rewind`."""
        self._marked = (list(self.episodes), self.turns, dict(self._sums))

    def rewind(self) -> None:
        """Go back to the last `mark`."""
        episodes, self.turns, sums = self._marked
        self.episodes, self._sums = list(episodes), dict(sums)

    def state(self) -> Mapping[str, Any]:
        """Names and checksums of the files that hold its episodes, and the checksum of those of earlier runs."""
        files = {"files": {str(step): checksum for step, checksum in self._sums.items()}}
        return {**files, "earlier": self._earlier_sum()} if self._earlier else files

    def restore(self, state: Mapping[str, Any]) -> None:
        """Read the episodes of the files; remove those of later steps.

        Raises:
            CheckpointError: a file is missing or damaged, or the episodes of earlier runs are others now.
        """
        if state.get("earlier") != (self._earlier_sum() if self._earlier else None):
            raise CheckpointError(
                "source.earlier: holds other episodes than when the run began; put the files back, or begin a new run"
            )
        self.episodes, self.turns = [], 0
        self._add(EARLIER, self._earlier)
        self._sums = {int(step): checksum for step, checksum in state["files"].items()}
        for step, checksum in list(self._sums.items()):
            self._add(step, replay_file.read(self._path(step), checksum))
        if self._writes:
            last = max(self._sums, default=-1)
            for path in self._folder.glob("step-*"):
                if path.name > self._path(last).name:
                    path.unlink()

    def _add(self, step: int, samples: Sequence[Sample]) -> None:
        new = [StoredEpisode.of(rows, step) for group in by_group(samples) for rows in group]
        self.episodes += [episode for episode in new if episode.turns]
        self.turns += sum(episode.turns for episode in new)
        gone = 0
        while self.turns > self._capacity and gone < len(self.episodes) - 1:
            self.turns -= self.episodes[gone].turns
            gone += 1
        self.episodes = self.episodes[gone:]
        oldest = self.episodes[0].step if self.episodes else step
        self._sums = {known: checksum for known, checksum in self._sums.items() if known >= oldest}

    def _worth_keeping(self, samples: Sequence[Sample]) -> list[Sample]:
        judged = [sample for sample in samples if not isnan(sample.reward)]
        return self._first_successes(judged) if self._first_success else judged

    def _earlier_sum(self) -> str:
        return replay_file.crc(b"".join(sample.token_ids.tobytes() for sample in self._earlier))

    def _first_successes(self, samples: Sequence[Sample]) -> list[Sample]:
        """Samples of episodes that earned something, the first of each prompt that no remembered episode has."""
        known = {episode.prompt for episode in self.episodes}
        kept: list[Sample] = []
        for rows in (rows for group in by_group(samples) for rows in group if rows[0].reward > 0):
            if (prompt := prompt_hash(rows[0])) not in known:
                known.add(prompt)
                kept += rows
        return kept

    def _best(self, quantile: float, by_prompt: bool) -> Sequence[StoredEpisode]:
        if not quantile:
            return self.episodes
        returns: dict[bytes, list[float]] = {}
        compared = [(episode, episode.prompt if by_prompt else b"") for episode in self.episodes]
        for episode, among in compared:
            returns.setdefault(among, []).append(episode.earned)
        least = {among: np.quantile(earned, quantile) for among, earned in returns.items()}
        return [episode for episode, among in compared if episode.earned >= least[among]]

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:06d}.safetensors"


def _turns(sample: Sample) -> list[int]:
    """Numbers of the turns that have tokens in the sample."""
    numbers: list[int] = np.unique(sample.turn_ids[sample.action_mask]).tolist()
    return numbers
