"""An episode with a simulated user, which all simulators of a set rate; where they disagree, its reward is less."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev

from llmrl.answers.thoughts import after_thoughts
from llmrl.dialogue.simulator import UserSimulator
from llmrl.errors import RewardError
from llmrl.types import Message, Observation, Problem


@dataclass(slots=True, kw_only=True)
class DialogueEpisode:
    """A conversation (`llmrl.protocols.Env`) with one simulator of a set.

    Behind its last line the reward is the mean of all ratings, less `penalty` times their standard deviation: a policy
    that has found what only one of them likes gains little by it.
    """

    problem: Problem
    partner: UserSimulator
    raters: Sequence[UserSimulator]  # the partner among them
    opens: bool
    max_turns: int
    penalty: float
    correct_from: float | None
    said: list[Message] = field(default_factory=list)

    async def reset(self) -> Observation:
        """Show the problem's messages, with the user's first line in the last of them, or as it."""
        *before, last = self.problem.messages
        if not self.opens:
            self.said = [{"role": "user", "content": last["content"]}]
            return Observation(messages=self.problem.messages)
        first = (await self.partner.reply(self.problem, ())).text
        self.said = [{"role": "user", "content": first}]
        if last["role"] != "user":
            return Observation(messages=[*before, last, *self.said])
        return Observation(messages=[*before, {**last, "content": f"{last['content']}\n{first}"}])

    async def step(self, message: Message) -> Observation:
        """Answer a line; the last one is answered by the ratings. Nobody hears the thoughts before it."""
        self.said.append({"role": "assistant", "content": after_thoughts(str(message["content"])).strip()})
        reply = await self.partner.reply(self.problem, self.said)
        self.said.append({"role": "user", "content": reply.text})
        late = sum(spoken["role"] == "assistant" for spoken in self.said) >= self.max_turns
        if not reply.ends and not late:
            return Observation(messages=[self.said[-1]])
        ratings = await asyncio.gather(*(rater.rate(self.problem, self.said) for rater in self.raters))
        if unfit := [rating for rating in ratings if not 0 <= rating <= 1]:
            raise RewardError(f"problem {self.problem.id}: a simulator rated {unfit[0]!r}; expected from 0 to 1")
        rating, spread = fmean(ratings), pstdev(ratings)
        right = None if self.correct_from is None else rating >= self.correct_from
        return Observation(
            messages=[self.said[-1]],
            reward=rating - self.penalty * spread,
            done=True,
            cut=not reply.ends,
            verdict=None if right is None else "correct" if right else "wrong",
            metrics={"rating": rating, "disagreement": spread, "penalty": self.penalty * spread},
        )

    async def close(self) -> None:
        """Do nothing: simulators hold no conversation."""
