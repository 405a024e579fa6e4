"""A source that remembers: episodes of now, some of earlier steps, and turns that no environment answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from random import Random
from statistics import fmean
from typing import Any, cast

from llmrl import aio
from llmrl.protocols import Source
from llmrl.rollout.concerted import gathered
from llmrl.rollout.context import SourceContext
from llmrl.rollout.replay_buffer import ReplayBuffer, StoredEpisode
from llmrl.rollout.samples import to_samples
from llmrl.samples import Sample
from llmrl.types import Completion, Problem, Score, Trajectory, Turn

FOLDER = "replay"
NO_PROBLEM = Problem(id="proposal", messages=[])


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Numbers that a step takes from the buffer."""

    turns: int  # of whole episodes
    proposals: int  # turns that the policy chooses at states of the buffer
    quantile: float  # of returns, below which episodes are not drawn
    by_prompt: bool  # the quantile is one of each prompt's own returns
    fresh: bool  # the step's own episodes are given, too


class ReplaySource:
    """Gives the samples of an inner source, episodes drawn from all that it has given, and proposals."""

    def __init__(self, inner: Source, buffer: ReplayBuffer, draws: Draws, context: SourceContext) -> None:
        self._inner = inner
        self.buffer = buffer
        self._draws = draws
        self._player = context.player
        self._seed, self._rank, self._gather = context.seed, context.rank, context.gather
        self.played: Sequence[Sequence[Trajectory]] = []
        self.metrics: Mapping[str, float] = {}
        self.data: Mapping[str, Any] = inner.data

    def next(self, step: int) -> list[Sample]:
        """Play a step's episodes; return them, those that were drawn, and the proposals.

        Raises:
            CheckpointError: the disk is full or not writable.
        """
        fresh = self._inner.next(step)
        self.played = self._inner.played
        self.buffer.extend(step, fresh)
        random = Random(f"{self._seed}/{FOLDER}/{step}")
        draws = self._draws
        drawn = self.buffer.draw(step, draws.turns, draws.quantile, random, draws.by_prompt)
        completions = self._completions(step, self.buffer.observations(draws.proposals, random))
        self.metrics = {**self._inner.metrics, **self._measured(step, drawn, [c for _, c in completions])}
        replayed = [
            replace(sample, group=f"{FOLDER}/{i}/{sample.group}", origin="replay")
            for i, episode in enumerate(drawn)
            for sample in episode.samples
        ]
        proposed = [
            sample
            for i, (prompt, completion) in enumerate(completions)
            for sample in _proposal(_name(step, i), prompt, completion)
        ]
        return [*(fresh if draws.fresh else ()), *replayed, *proposed]

    def timings(self) -> Mapping[str, float]:
        return self._inner.timings()

    def state(self) -> Mapping[str, Any]:
        return {"inner": self._inner.state(), FOLDER: self.buffer.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: a file of the buffer is missing or damaged.
        """
        self._inner.restore(state["inner"])
        self.buffer.restore(state[FOLDER])

    def mark(self) -> None:
        """Remember what there is before a step, for `rewind`."""
        cast(Any, self._inner).mark()
        self.buffer.mark()

    def rewind(self) -> None:
        """Go back to the last `mark`."""
        cast(Any, self._inner).rewind()
        self.buffer.rewind()

    def close(self) -> None:
        self._inner.close()

    def _completions(self, step: int, prompts: Sequence[Sequence[int]]) -> list[tuple[Sequence[int], Completion]]:
        """Completions of prompts by the policy as it stands, each process its share; on every process."""
        rank, ranks = self._rank
        mine = range(rank, len(prompts), ranks)

        async def generated() -> list[tuple[int, Completion]]:
            completions = await self._player.complete([prompts[i] for i in mine], [_name(step, i) for i in mine])
            return list(zip(mine, completions, strict=True))

        found = dict(gathered(lambda: aio.wait(generated()), cast(Any, self._gather)))
        return [(prompt, found[i]) for i, prompt in enumerate(prompts)]

    def _measured(
        self, step: int, drawn: Sequence[StoredEpisode], completions: Sequence[Completion]
    ) -> Mapping[str, float]:
        metrics = {"replay/turns": float(self.buffer.turns), "replay/episodes": float(len(self.buffer.episodes))}
        metrics["replay/drawn"], metrics["replay/proposals"] = float(len(drawn)), float(len(completions))
        if drawn:
            metrics["replay/age"] = fmean(step - episode.step for episode in drawn)
            metrics["replay/return"] = fmean(episode.earned for episode in drawn)
        if completions:
            metrics["replay/proposals_cut"] = fmean(completion.finish == "length" for completion in completions)
        return metrics


def _proposal(group: str, prompt: Sequence[int], completion: Completion) -> list[Sample]:
    """A sample of a single turn, without a reward; none of an empty one."""
    turn = Turn(prompt_ids=prompt, completion=completion, text="")
    trajectory = Trajectory(problem=NO_PROBLEM, turns=[turn], status="done", score=Score(0.0), group=group)
    samples = to_samples(trajectory) if len(completion.token_ids) else []
    return [replace(sample, reward=nan, origin="proposal") for sample in samples]


def _name(step: int, number: int) -> str:
    return f"proposal/{step}/{number}"
