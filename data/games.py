"""Problems of a text game: its starts, in an order drawn by seed, in two splits that do not meet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from llmrl.data.arithmetic import shuffled
from llmrl.games.game import TextGame
from llmrl.plugins import build_held, holds, name_of
from llmrl.recipe.ranges import Count, Seed
from llmrl.types import Problem

HELD_OUT = 0.2  # of the starts; a constant, so that no two settings can disagree on the held-out ones


@dataclass(frozen=True, kw_only=True)
class Games:
    """The starts of `env`, a text game with its options, each once.

    A start is held out by the hash of its game and of what it is a variant of (a chess position and its mirror images
    are one): train and heldout never meet, whatever their options, seeds and counts. The environment of the recipe
    plays; what the policy reads is decided by its options, not by those of `env` here.
    """

    env: TextGame[Any] = field(metadata=holds("env"))
    split: Literal["train", "heldout", "all"] = "train"
    count: Count | None = None  # the first so many; None: all there are
    seed: Seed = 0  # of the order

    def __post_init__(self) -> None:
        build_held(self)
        if not isinstance(self.env, TextGame):
            raise ValueError(f"env {name_of('env', self.env)} is no text game; expected one of docs/games.md")

    def problems(self) -> Iterator[Problem]:
        """Yield at most `count` problems; ids are `maze/1,1`."""
        return islice(self._all(), self.count)

    def _all(self) -> Iterator[Problem]:
        game, starts = name_of("env", self.env), self.env.starts()
        for position in range(len(starts)):
            start = starts[shuffled(position, len(starts), self.seed)]
            if self.split == "all" or held_out(game, self.env.family(start)) == (self.split == "heldout"):
                text = self.env.opening(self.env.begin(start))
                yield Problem(
                    id=f"{game}/{start}",
                    messages=[{"role": "user", "content": text}],
                    info={"game": game, "start": start},
                )


def held_out(game: str, family: str) -> bool:
    """Tell whether the starts of a family belong to the held-out share.

    The 2 is chosen so that the smallest games, too, have starts in both splits.
    """
    digest = hashlib.blake2b(f"games/{game}/{family}/2".encode(), digest_size=8).digest()
    return int.from_bytes(digest) < HELD_OUT * 2**64


plugin = Games
