"""Episodes of now beside those of earlier steps, which a ring buffer keeps, and fresh turns at their states."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from llmrl.datafiles.rows import LeftOutError
from llmrl.errors import DataError
from llmrl.offline.encode import AnswerEncoder
from llmrl.plugins import build_held, holds, name_of
from llmrl.protocols import Column, SourceFactory
from llmrl.rollout.context import SourceContext
from llmrl.rollout.replay import FOLDER, Draws, ReplaySource
from llmrl.rollout.replay_buffer import ReplayBuffer
from llmrl.run_folder import reader
from llmrl.samples import Sample
from llmrl.sources.online import Online

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Remembers what `of` has played; for algorithms that learn from turns of earlier policies, such as archer."""

    plays: ClassVar[bool] = True
    replays: ClassVar[bool] = True
    of: SourceFactory | None = field(default=None, metadata=holds("source"))  # plays a step's episodes; None: online
    capacity: int = 100_000  # turns; the oldest episodes leave
    turns: int = 12_800  # of episodes drawn from the buffer for a step; 0: none
    proposals: int = 768  # turns that the policy chooses at states of the buffer, in a step; no environment sees them
    quantile: float = 0.0  # of returns: only episodes at least as good are drawn; 0.9 with bc is online filtered BC
    quantile_of: Literal["all", "prompt"] = "all"  # returns; of all, those of easy starts pass and hard ones are lost
    first_success: bool = False  # remember only the first episode of each prompt that earned something, as webrl does
    fresh: bool = True  # a step learns from its own episodes, besides what is drawn
    earlier: Sequence[str] = field(default=(), hash=False)  # runs, or their rollouts.jsonl, that are remembered, too

    def __post_init__(self) -> None:
        build_held(self)
        inner = self._inner
        if not inner.plays or getattr(inner, "overlaps", False) or getattr(inner, "replays", False):
            raise ValueError(
                f"of: source {name_of('source', inner)} as it is set here; expected one that plays its episodes in the "
                "step that learns from them, such as online"
            )
        if self.capacity < 1 or self.turns < 0 or self.proposals < 0:
            raise ValueError(
                f"capacity {self.capacity}, turns {self.turns}, proposals {self.proposals}: expected at least 1, 0, 0"
            )
        if not 0 <= self.quantile < 1:
            raise ValueError(f"quantile {self.quantile}: expected from 0 to below 1")

    def fills(self) -> frozenset[Column]:
        """Nothing: models of now are asked about every turn."""
        return frozenset()

    def start(self, context: SourceContext) -> ReplaySource:
        """The source with a buffer that holds the earlier runs' episodes alone, whose files lie in the run's folder.

        Raises:
            DataError: as the inner source, or an earlier run cannot be read.
        """
        writes = context.rank[0] == 0
        earlier = [sample for i, path in enumerate(self.earlier) for sample in _episodes(Path(path), i, context)]
        buffer = ReplayBuffer(context.folder / FOLDER, self.capacity, writes, self.first_success, earlier)
        draws = Draws(
            turns=self.turns,
            proposals=self.proposals,
            quantile=self.quantile,
            by_prompt=self.quantile_of == "prompt",
            fresh=self.fresh,
        )
        return ReplaySource(self._inner.start(context), buffer, draws, context)

    @property
    def _inner(self) -> Any:
        return Online() if self.of is None else self.of


def _episodes(path: Path, number: int, context: SourceContext) -> Iterator[Sample]:
    """Samples of the scored episodes of an earlier run, in groups of their own; too long ones are left out, and told.

    Raises:
        DataError: the run cannot be read, or all of its episodes are too long.
    """
    encoder = AnswerEncoder(context.chat, context.options)
    fitting, left_out = 0, Counter[str]()
    for record in reader.episodes(path):
        played = encoder.in_tokens(record)
        try:
            samples = encoder.fit(replace(played, group=f"earlier/{number}/{played.group}"))
        except LeftOutError as reason:
            left_out[str(reason)] += 1
            continue
        fitting += 1
        yield from samples
    if left_out:
        why = ", ".join(f"{reason}: {count}" for reason, count in left_out.most_common())
        told = f"source.earlier: {path}: {left_out.total()} of {fitting + left_out.total()} episodes left out ({why})"
        if not fitting:
            raise DataError(f"{told}; expected some within the limits: raise these, or leave the run out")
        log.warning("%s", told)


plugin = Replay
