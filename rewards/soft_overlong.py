"""A penalty that grows over the last stretch before the length limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmrl.recipe.ranges import Count, Whole
from llmrl.types import Score, Trajectory


@dataclass(frozen=True, kw_only=True)
class SoftOverlong:
    """0 for short answers, falling to -1 at the limit and no further (DAPO, arXiv 2503.14476, eq. 13).

    With n tokens in the last completion: 0 if n <= limit - cache; (limit - cache - n) / cache up to the limit; else -1.
    """

    limit: Count  # tokens; the longest completion that is allowed
    cache: Whole  # tokens before the limit over which the penalty grows

    def __post_init__(self) -> None:
        if not 0 < self.cache <= self.limit:
            raise ValueError(f"cache {self.cache}, limit {self.limit}: expected 0 < cache <= limit")

    def penalty(self, tokens: int) -> float:
        """Penalty of an answer of so many tokens, -1 to 0."""
        return max(-1.0, min(0.0, (self.limit - self.cache - tokens) / self.cache))

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        lengths = [0 if t.last is None else len(t.last.completion.token_ids) for t in group]
        return [Score(self.penalty(n), reason=f"{n} tokens of {self.limit}") for n in lengths]


plugin = SoftOverlong
