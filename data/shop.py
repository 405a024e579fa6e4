"""Tasks in a small shop for environment `shop`: a goal by kind and seed, in a shop of that seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from llmrl.browser.shop.goals import KINDS, OF_PARTS, make_goal
from llmrl.types import Problem

SPLIT = 1_000_000  # seeds below it are for training, those from it on for tests


@dataclass(frozen=True, kw_only=True)
class ShopTasks:
    """`seeds` goals of each kind, kind by kind in turn; train and test never share a shop."""

    kinds: Sequence[str] = field(default=tuple(KINDS), hash=False)  # find cheapest basket remove login spent buy
    seeds: int = 100  # goals of each kind
    first: int = 0  # seed of the first within the split
    split: Literal["train", "test"] = "train"
    levels: int = 1  # of kind buy: level l of n asks for the first l/n of its parts; others have the last alone

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f"kinds: unknown {unknown[0]!r}; known: {', '.join(KINDS)}")
        if self.seeds < 1 or self.first < 0 or self.first + self.seeds > SPLIT or self.levels < 1:
            raise ValueError(f"seeds and levels must be at least 1, first at least 0, first + seeds at most {SPLIT}")

    def problems(self) -> Iterator[Problem]:
        """Yield problems with `kind`, `seed`, `progress` and `level` in their info."""
        start = self.first + (SPLIT if self.split == "test" else 0)
        for seed in range(start, start + self.seeds):
            for kind in self.kinds:
                for level in range(1 if kind in OF_PARTS else self.levels, self.levels + 1):
                    progress = level / self.levels
                    part = f"/{level}of{self.levels}" if self.levels > 1 else ""
                    yield Problem(
                        id=f"shop/{kind}/{seed}{part}",
                        messages=[{"role": "user", "content": make_goal(kind, seed, progress).text}],
                        info={"kind": kind, "seed": seed, "progress": progress, "level": level},
                    )


plugin = ShopTasks
