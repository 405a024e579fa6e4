"""Tasks in a small shop for environment `shop`: a goal by kind and seed, in a shop of that seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from llmrl.browser.shop.goals import KINDS, OF_PARTS, make_goal
from llmrl.browser.variants import Split, check_variants, levels_of, seeds_of
from llmrl.types import Problem


@dataclass(frozen=True, kw_only=True)
class ShopTasks:
    """`seeds` goals of each kind, kind by kind in turn; train and test never share a shop."""

    kinds: Sequence[str] = field(default=tuple(KINDS), hash=False)  # find cheapest basket remove login spent buy
    seeds: int = 100  # goals of each kind
    first: int = 0  # seed of the first within the split
    split: Split = "train"
    levels: int = 1  # of kind buy: level l of n asks for the first l/n of its parts; others have the last alone

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f"kinds: unknown {unknown[0]!r}; known: {', '.join(KINDS)}")
        check_variants(self.seeds, self.first, self.levels)

    def problems(self) -> Iterator[Problem]:
        """Yield problems with `kind`, `seed`, `progress` and `level` in their info."""
        for seed in seeds_of(self.split, self.first, self.seeds):
            for kind in self.kinds:
                for variant in levels_of(self.levels, kind in OF_PARTS):
                    info = {"kind": kind, "seed": seed, "progress": variant.progress, "level": variant.level}
                    yield Problem(
                        id=f"shop/{kind}/{seed}{variant.suffix}",
                        messages=[{"role": "user", "content": make_goal(kind, seed, variant.progress).text}],
                        info=info,
                    )


plugin = ShopTasks
