"""Sentences that must use given words, generated from a short list of words: a task for several measures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from llmrl.datafiles.rows import ask
from llmrl.errors import DataError
from llmrl.recipe.ranges import Seed
from llmrl.types import Problem

HELD_OUT = 0.2  # of all sets of words; a constant, so that no two settings can disagree on the held-out ones
MAX_TRIES = 10_000  # in a row without a new set
SCENES = (
    ("kitchen", "cook bake stir", "soup bread oven spoon flour plate chef apron"),
    ("sea", "sail swim float", "boat wave anchor harbor shell captain island gull"),
    ("farm", "plant feed milk", "cow barn tractor hay fence chicken seed farmer"),
    ("city", "drive cross wait", "street bus bridge traffic station taxi crowd tower"),
    ("school", "read write learn", "teacher book pencil desk lesson bell classroom student"),
    ("forest", "climb hike camp", "tree trail tent river bear leaf branch mountain"),
    ("music", "play sing dance", "guitar drum stage song violin singer concert piano"),
    ("winter", "ski slide shovel", "snow hill coat sled scarf ice glove slope"),
    ("workshop", "build paint fix", "hammer nail wood ladder saw wheel brush engine"),
    ("park", "walk throw chase", "dog ball bench child kite squirrel path pond"),
)
"""A name, verbs and nouns: words of a scene can stand in one sentence."""


@dataclass(frozen=True)
class ConstrainedText:
    """Sets of words, one verb and some nouns of one scene, drawn by `seed`; no two are equal.

    The reward `coverage` reads `words` in `info`. Whether a set is held out depends on its words alone.
    """

    split: Literal["train", "heldout"] = "train"
    count: int = 400
    nouns: int = 3
    seed: Seed = 0
    template: str = "Write one plain sentence that uses all of these words: {words}."

    def __post_init__(self) -> None:
        if not 1 <= self.nouns <= 8 or self.count < 1:
            raise ValueError(
                f"nouns {self.nouns}, count {self.count}: expected 1 to 8 nouns, and a count of at least 1"
            )

    def problems(self) -> Iterator[Problem]:
        """Yield `count` problems; ids are `constrained_text/boat-captain-sail-wave`.

        Raises:
            DataError: there are fewer sets than that.
        """
        random = Random(f"constrained_text/{self.seed}")
        seen: set[str] = set()
        tries = 0
        while len(seen) < self.count:
            scene, verbs, nouns = random.choice(SCENES)
            words = sorted([random.choice(verbs.split()), *random.sample(nouns.split(), self.nouns)])
            key, tries = "-".join(words), tries + 1
            if tries > MAX_TRIES:
                raise DataError(
                    f"constrained_text: only {len(seen)} sets of words found, count is {self.count}; lower it, or take "
                    "another number of nouns"
                )
            if key not in seen and held_out(key) == (self.split == "heldout"):
                seen.add(key)
                tries = 0
                random.shuffle(words)
                yield self._problem(key, scene, words)

    def _problem(self, key: str, scene: str, words: list[str]) -> Problem:
        return Problem(
            id=f"constrained_text/{key}",
            messages=ask(self.template.format(words=", ".join(words)), ""),
            answer=", ".join(words),
            info={"words": words, "scene": scene},
        )


def held_out(key: str) -> bool:
    """Tell whether this set of words belongs to the held-out share."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) < HELD_OUT * 2**64


plugin = ConstrainedText
