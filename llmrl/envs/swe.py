"""Repositories to repair with tools: a shell, files to read and edit; judged by tests that the policy never sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llmrl.recipe.ranges import Count, Seconds
from llmrl.swe.episode import AgentLimits, SweEpisode
from llmrl.swe.instance import Instance
from llmrl.swe.judging import Credit
from llmrl.swe.testing import TestBed
from llmrl.types import Problem


@dataclass(frozen=True, kw_only=True)
class SweAgent(TestBed):
    """Options of the environment `swe`, for problems of the reward `swe_tests`. A repair earns its value at the end."""

    max_open_envs: ClassVar[int] = 8  # folders at once, of a process
    credit: Credit = "all"
    max_steps: int = 30  # turns; then the repair is judged as it stands
    command_timeout_s: Seconds = 60.0
    max_calls: Count = 4  # of a turn; further ones are refused
    max_characters: Count = 10_000  # of the answer of a call; the middle of a longer one is left out

    def __post_init__(self) -> None:
        super().__post_init__()
        self.limits()

    def limits(self) -> AgentLimits:
        """Limits of an episode."""
        return AgentLimits(
            max_steps=self.max_steps,
            command_timeout_s=self.command_timeout_s,
            max_calls=self.max_calls,
            max_characters=self.max_characters,
        )

    def make(self, problem: Problem) -> SweEpisode:
        """Make an episode of a problem.

        Raises:
            DataError: it lacks a column.
        """
        return SweEpisode(Instance.of(problem), self, self.limits(), self.credit)


plugin = SweAgent
