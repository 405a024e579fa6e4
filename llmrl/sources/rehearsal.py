"""Stored answers of a new task, and a share of those that earlier tasks left to rehearse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from llmrl.offline.rehearsal import RehearsalSource
from llmrl.plugins import build_held, holds, name_of
from llmrl.protocols import Column, SourceFactory
from llmrl.recipe.ranges import Share
from llmrl.rollout.context import SourceContext
from llmrl.sources.offline import Offline


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """Two offline sources against forgetting: each step learns from rows of `replay`, too; `llmrl data select`."""

    plays: ClassVar[bool] = False
    of: SourceFactory = field(metadata=holds("source"))  # the new task
    replay: SourceFactory = field(metadata=holds("source"))  # what `llmrl data select` wrote of earlier ones
    share: Share = 0.15  # of a step's rows

    def __post_init__(self) -> None:
        build_held(self)
        for name, source in self._both().items():
            if not isinstance(source, Offline) or source.columns is not None:
                raise ValueError(
                    f"{name}: source {name_of('source', source)} as it is set here; expected offline, or one made of "
                    "it, without stored columns"
                )
        if not 0 < self.share < 1:
            raise ValueError(f"share {self.share}: expected above 0 and below 1")

    def fills(self) -> frozenset[Column]:
        """Nothing: no column is stored beside both."""
        return frozenset()

    def start(self, context: SourceContext) -> RehearsalSource:
        """Both sources, each at its first row; a step has at least one row of each.

        Raises:
            DataError: rows of either cannot be read.
        """
        rows = context.options.prompts_per_step
        replayed = max(round(self.share * rows), 1)
        counts = {"of": max(rows - replayed, 1), "replay": replayed}
        started = {
            name: source.start(replace(context, options=replace(context.options, prompts_per_step=counts[name])))
            for name, source in self._both().items()
        }
        return RehearsalSource(started["of"], started["replay"])

    def _both(self) -> Mapping[str, Any]:
        return {"of": self.of, "replay": self.replay}


plugin = Rehearsal
