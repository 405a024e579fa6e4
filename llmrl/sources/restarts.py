"""Episodes that begin in the midst of earlier ones, beside those that begin at the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

from llmrl.chat import Chat
from llmrl.errors import DataError
from llmrl.rollout.context import SourceContext
from llmrl.rollout.cuts import Cuts, LineCuts, Snapshot, TurnCuts
from llmrl.rollout.filters import Filter
from llmrl.rollout.restarts import RestartSampler
from llmrl.rollout.sampler import Sampler
from llmrl.rollout.source import RolloutSource
from llmrl.run_folder.reader import episodes
from llmrl.sources.asynchronous import Asynchronous
from llmrl.sources.online import Online
from llmrl.types import Problem, Trajectory


@dataclass(frozen=True)
class Restarts(Asynchronous):
    """A falling share of the groups goes on from the midst of an earlier episode (SnapshotRL, S3RL).

    With `max_staleness` 0 it schedules as `online` does, above that as `asynchronous`.
    """

    max_staleness: int = 0
    share: float = 0.5  # of a step's groups, at first
    decay_steps: int = 60  # until it has fallen to 0, in a straight line; about 30 % of train.max_steps
    max_continuation_length: int | None = (
        None  # tokens after the prefix; None: what rollout.max_completion_length leaves
    )
    at: Literal["line", "turn"] = "line"  # behind a line of the first answer, or between turns of the episode
    max_new_turns: int | None = None  # behind a turn; None: what rollout.max_turns leaves
    max_snapshots: int = 1024  # the newest are kept
    rollouts: str | None = None  # another run's rollouts.jsonl to begin with; None: this run's own answers alone

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.share <= 1 or self.decay_steps < 1 or self.max_snapshots < 1:
            raise ValueError("share must be in [0, 1], decay_steps and max_snapshots at least 1")
        if self.max_continuation_length is not None and self.max_continuation_length < 1:
            raise ValueError("max_continuation_length must be at least 1")
        if self.max_new_turns is not None and self.max_new_turns < 1:
            raise ValueError("max_new_turns must be at least 1")
        other = {"line": "max_new_turns", "turn": "max_continuation_length"}[self.at]
        if getattr(self, other) is not None:
            raise ValueError(f"{other} with at {self.at}: it is of the other cut; leave it out")

    def start(self, context: SourceContext) -> RolloutSource:
        """Compose the source: see `Online.start`. Turns keep snapshots where they are begun from."""
        if self.at == "turn":
            context = replace(context, worker=replace(context.player, snapshots=True))
        return super().start(context)

    def share_at(self, step: int) -> float:
        """Give the share of a step's groups that are restarts, where there are snapshots."""
        return self.share * max(0.0, 1.0 - step / self.decay_steps)

    def sampler(self, context: SourceContext) -> Sampler:
        """Draw restarts beside fresh problems.

        Raises:
            DataError: `rollouts` cannot be used.
        """
        cuts, chat = self.cuts(context), context.chat
        problems = {problem.id: problem for problem in context.problems}
        path = self.rollouts
        return RestartSampler(
            self.problem_sampler(context),
            cuts,
            share=self.share_at,
            max_snapshots=self.max_snapshots,
            snapshots=() if path is None else read(Path(path), problems, chat, cuts),
        )

    def cuts(self, context: SourceContext) -> Cuts:
        """Make what cuts episodes into states."""
        options, seed = context.options, context.seed
        if self.at == "turn":
            return TurnCuts(options.max_turns, self.max_new_turns, seed)
        return LineCuts(context.chat, options.max_completion_length, self.max_continuation_length, seed)

    def filters(self) -> list[Filter]:
        """Refuse stale groups only where groups are generated ahead."""
        return super().filters() if self.overlaps else Online.filters(self)


def read(path: Path, problems: Mapping[str, Problem], chat: Chat, cuts: Cuts) -> list[Snapshot]:
    """Read snapshots of another run's `rollouts.jsonl`, of the tokens that it logged.

    The first answer is encoded anew where the tokens of an episode do not decode to its texts: none were logged, they
    are of another tokenizer, or the answer goes on from a prefix. No state between its turns is then begun from.

    Raises:
        DataError: it cannot be read, is of other problems, or has nothing to begin after.
    """
    states: list[Snapshot] = []
    try:
        trajectories = (record.trajectory for record in episodes(path))
        for _, same_group in groupby(trajectories, key=lambda episode: episode.group):
            group = [_with_text_tokens(episode, chat) for episode in same_group]
            if group[0].problem.id not in problems:
                raise DataError(
                    f"{path}: problem {group[0].problem.id} is not in this run's data; expected rollouts of it"
                )
            states += cuts.states(group)
    except DataError as error:
        raise DataError(f"source.rollouts: {error}") from None
    if not states:
        raise DataError(f"source.rollouts: {path}: {cuts.lacking}; leave it out")
    return states


def _with_text_tokens(episode: Trajectory, chat: Chat) -> Trajectory:
    """The episode with its first answer in tokens that decode to its text; without prompts where tokens are others."""
    if all(chat.text(turn.completion.token_ids) == turn.text for turn in episode.turns):
        return episode
    first, *others = (replace(turn, prompt_ids=()) for turn in episode.turns)
    ids = chat.tokenizer(first.text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return replace(episode, turns=[replace(first, completion=replace(first.completion, token_ids=ids)), *others])


plugin = Restarts
