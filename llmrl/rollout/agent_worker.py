"""Run episodes that an agent program plays by itself, before a gateway that records its tokens."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from llmrl.errors import LlmrlError, RecipeError
from llmrl.gateway.server import Gateway
from llmrl.gateway.session import Session
from llmrl.protocols import Agent
from llmrl.rollout.episode import TurnSampling
from llmrl.rollout.worker import RolloutWorker
from llmrl.types import Problem, Status, Trajectory


@dataclass(slots=True)
class AgentGate:
    """Lets at most so many episodes run at once; made by the first, on its event loop."""

    _semaphore: asyncio.Semaphore | None = None

    def __call__(self, most: int) -> asyncio.Semaphore:
        self._semaphore = self._semaphore or asyncio.Semaphore(most)
        return self._semaphore


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentWorker(RolloutWorker):
    """Runs a program for each episode. Its calls are the turns; groups, seeds and scores are those of every worker."""

    agent: Agent
    gateway: Gateway
    breaks: ClassVar[str] = "agent"
    gate: AgentGate = field(default_factory=AgentGate, compare=False)

    async def play(
        self,
        problem: Problem,
        sampling: TurnSampling,
        prefix_ids: Sequence[int] = (),
        group: str = "",
        episode: int = 0,
    ) -> Trajectory:
        """Play an episode: see `EpisodePlayer.play`. Whatever the program does, its answered calls are kept.

        Raises:
            RecipeError: there is a prefix.
            LlmrlError: what the engine meets.
        """
        if prefix_ids:
            raise RecipeError("an agent begins with its own prompt; expected a source without restarts")
        async with self.gate(self._most_at_once()):
            session = self.gateway.sessions.open(
                sampling=sampling,
                max_calls=self.options.max_turns,
                max_tokens=self._room,
                metadata={"problem": problem.id, "group": group, "episode": episode},
            )
            try:
                status, reason = await self._run(problem, session)
            finally:
                self.gateway.sessions.close(session)
        if isinstance(session.failure, LlmrlError):
            raise session.failure
        return _trajectory(session, problem, *_ending(session, status, reason), group, episode)

    async def _run(self, problem: Problem, session: Session) -> tuple[Status, str]:
        url = await self.gateway.url()
        try:
            async with self._timed():
                return await self.agent.run(problem, f"{url}/sessions/{session.id}/v1", session.id)
        except LlmrlError:
            raise
        except Exception as error:  # a bad episode is data
            return "error", f"{type(error).__name__}: {error}"

    def _most_at_once(self) -> int:
        own: int = getattr(self.agent, "max_open", 0) or 8 * (os.cpu_count() or 1)
        return self.options.max_open_envs or own


def _ending(session: Session, status: Status, reason: str) -> tuple[Status, str]:
    """Tell how the episode ended: by a limit that refused a call, whatever the program made of that, else as it says.

    A program that broke behind its reward has done its work; one that never asked the policy has not begun it.
    """
    if session.failure is not None:  # which the program may have passed over
        return "error", f"{type(session.failure).__name__}: {session.failure}"
    if not session.answered:
        return "error", reason or "the agent ended without an answered call; expected it to ask OPENAI_BASE_URL"
    if session.limit is not None:
        return session.limit, reason
    return ("done", reason) if status == "error" and session.rewarded else (status, reason)


def _trajectory(
    session: Session, problem: Problem, status: Status, reason: str, group: str, episode: int
) -> Trajectory:
    answered = session.answered
    return Trajectory(
        problem=problem,
        turns=session.turns(),
        status=status,
        reason=reason,
        group=group,
        episode=episode,
        shown=answered[0].messages if answered else None,
        tools=answered[0].tools if answered else (),
        verdict=session.verdict if status in ("done", "cut") else None,
        metrics=session.metrics(),
    )
