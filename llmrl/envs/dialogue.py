"""Conversations with simulated users, rated by all of a set: their disagreement is a penalty."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmrl.dialogue.episode import DialogueEpisode
from llmrl.dialogue.simulator import UserSimulator
from llmrl.plugins import build
from llmrl.recipe.ranges import Amount, Count
from llmrl.types import Message, Problem


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """Options of the environment `dialogue`.

    A problem's partner is drawn by a hash of its id, so that the episodes of a group talk with the same one.
    Sets of simulators against a policy that fits one of them are Sim2Rec's idea; the penalty by the spread of their
    ratings is a form of ours.
    """

    simulators: Sequence[str | Mapping[str, Any]]  # plug-ins with their options; those of one group know the problem
    opens: bool = True  # the user speaks first, behind the problem's messages; False: the last of those is its line
    max_turns: Count = 8  # lines of the policy; then the conversation is cut off, and rated as it is
    penalty: Amount = 0.5  # times the standard deviation of the ratings
    correct_from: float | None = None  # mean rating from which the verdict is `correct`; None: no verdict

    def __post_init__(self) -> None:
        if isinstance(self.simulators, str) or not self.simulators:
            raise ValueError(f"simulators {self.simulators!r}: expected a list of at least one")
        if self.correct_from is not None and not 0 <= self.correct_from <= 1:
            raise ValueError(f"correct_from {self.correct_from}: expected from 0 to 1, or none")
        self.built()

    def built(self) -> list[UserSimulator]:
        """The simulators.

        Raises:
            RecipeError: there is none of a name, or it refuses its options.
        """
        return [build("simulator", spec, f"env.simulators[{n}]") for n, spec in enumerate(self.simulators)]

    def first_messages(self, problem: Problem) -> Sequence[Message]:
        """The problem's messages; the user's first line, if it opens, comes on top."""
        return problem.messages

    def make(self, problem: Problem) -> DialogueEpisode:
        """Make a conversation about a problem."""
        simulators = self.built()
        digest = hashlib.blake2b(f"dialogue/{problem.id}".encode(), digest_size=8).digest()
        return DialogueEpisode(
            problem=problem,
            partner=simulators[int.from_bytes(digest) % len(simulators)],
            raters=simulators,
            opens=self.opens,
            max_turns=self.max_turns,
            penalty=self.penalty,
            correct_from=self.correct_from,
        )


plugin = Dialogue
