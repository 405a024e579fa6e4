"""Run an episode; run a group and score it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from llmrl.chat import Chat
from llmrl.errors import DataError, LlmrlError, RewardError
from llmrl.protocols import Engine, EnvFactory
from llmrl.recipe import RolloutOptions
from llmrl.rollout.step_rewards import placed
from llmrl.scoring.manager import GroupScorer, latency_metrics
from llmrl.scoring.verdicts import mark_truncated
from llmrl.trajectories import share_prompts
from llmrl.types import Message, Observation, Problem, Sampling, Score, Status, Trajectory, Turn


class Stopwatch:
    """Divides a step's time into generating and waiting for scores, which mostly overlap.

    `generate` is the seconds in which some episode was running, `score` those in which none was and a score was
    awaited: the time that scoring adds to a step.
    """

    def __init__(self) -> None:
        self._open = {"generate": 0, "score": 0}
        self._seconds = {"generate": 0.0, "score": 0.0}
        self._since = 0.0

    @contextmanager
    def during(self, phase: Literal["generate", "score"]) -> Iterator[None]:
        """Count the time inside as generating an episode, or as scoring a group."""
        self._settle()
        self._open[phase] += 1
        try:
            yield
        finally:
            self._settle()
            self._open[phase] -= 1

    def read(self) -> dict[str, float]:
        """The seconds since the last call."""
        self._settle()
        taken, self._seconds = self._seconds, {"generate": 0.0, "score": 0.0}
        return taken

    def _settle(self) -> None:
        now = time.perf_counter()
        phase = "generate" if self._open["generate"] else "score"
        if self._open[phase]:
            self._seconds[phase] += now - self._since
        self._since = now


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutWorker:
    """Runs and scores episodes: engine, chat template, environment, reward and limits."""

    engine: Engine
    chat: Chat
    env: EnvFactory
    reward: GroupScorer
    options: RolloutOptions
    seed: int
    stopwatch: Stopwatch = field(default_factory=Stopwatch, compare=False)

    def timings(self) -> dict[str, float]:
        """Seconds of generating and of waiting for scores since the last call, and of scoring an item, for the log."""
        seconds = {f"time/{phase}": taken for phase, taken in self.stopwatch.read().items()}
        return seconds | latency_metrics(self.reward.latencies())

    async def run_episode(
        self, problem: Problem, group: str, episode: int, prefix_ids: Sequence[int] = ()
    ) -> Trajectory:
        """Run an episode. Whatever the environment does, there is a trajectory; what llmrl itself refuses is raised.

        With `prefix_ids` the first turn goes on from these tokens as if the policy had sampled them: they are part of
        its text and count towards its `max_completion_length`, but they are no actions.
        """
        turns: list[Turn] = []
        shown: list[Observation] = []
        status: Status
        try:
            with self.stopwatch.during("generate"):
                status, reason = await self._talk(problem, group, episode, shown, turns, list(prefix_ids)), ""
        except LlmrlError:
            raise
        except Exception as error:  # a bad episode is data
            status, reason = "error", f"{type(error).__name__}: {error}"
        first = shown[0] if shown else Observation()
        return Trajectory(
            problem=problem,
            turns=turns,
            status=status,
            reason=reason,
            group=group,
            episode=episode,
            shown=first.messages if shown else None,
            tools=first.tools,
        )

    async def _talk(
        self,
        problem: Problem,
        group: str,
        episode: int,
        shown: list[Observation],
        turns: list[Turn],
        prefix: list[int],
    ) -> Status:
        """Append the first observation, then turns until the environment or a limit ends the episode; return which."""
        env = self.env.make(problem)
        try:
            seen = await env.reset()
            shown.append(seen)
            prompt = array("i", self._prompt(problem, seen.messages, seen.tools) + prefix)
            while True:
                sampling = self._sampling(group, episode, len(turns))
                if prefix:
                    sampling = replace(sampling, max_tokens=sampling.max_tokens - len(prefix))
                completion = await self.engine.generate(prompt, sampling)
                text = self.chat.text([*prefix, *completion.token_ids])
                prefix = []
                seen = await env.step({"role": "assistant", "content": text})
                turns.append(
                    Turn(prompt_ids=prompt, completion=completion, text=text, reply=seen.messages, reward=seen.reward)
                )
                if seen.done:
                    return "done"
                if completion.finish == "length":
                    return "max_tokens"
                if len(turns) == self.options.max_turns:
                    return "max_turns"
                prompt = array("i", self.chat.extend_ids([*prompt, *completion.token_ids], seen.messages, seen.tools))
                if len(prompt) >= self.options.max_length:
                    return "max_tokens"
        finally:
            await env.close()

    async def run_group(self, problem: Problem, group: str, prefix_ids: Sequence[int] = ()) -> list[Trajectory]:
        """Run `num_generations` episodes of a problem at once and score them; all after one prefix, if any.

        Raises:
            RewardError: the reward gave more or fewer scores than episodes, or dense rewards of other tokens.
        """
        played = await asyncio.gather(
            *(self.run_episode(problem, group, episode, prefix_ids) for episode in range(self.options.num_generations))
        )
        whole = [trajectory for trajectory in played if trajectory.status != "error"]
        with self.stopwatch.during("score"):
            given = await self.reward.score(whole) if whole else []
        if len(given) != len(whole):
            raise RewardError(
                f"problem {problem.id}: the reward gave {len(given)} scores for {len(whole)} episodes; expected one "
                "each, in their order"
            )
        scores = iter(given)
        return [
            replace(trajectory, score=placed(trajectory, mark_truncated(trajectory, next(scores)), self.chat))
            if trajectory.status != "error"
            else replace(trajectory, score=Score(None, "error", reason=trajectory.reason))
            for trajectory in share_prompts(played)
        ]

    def _prompt(self, problem: Problem, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[int]:
        prompt = self.chat.prompt_ids(messages, tools)
        if len(prompt) > self.options.max_prompt_length:
            raise DataError(
                f"problem {problem.id}: its prompt has {len(prompt)} tokens, rollout.max_prompt_length is "
                f"{self.options.max_prompt_length}; raise it, or leave the problem out of the data"
            )
        return prompt

    def _sampling(self, group: str, episode: int, turn: int) -> Sampling:
        """Sampling with a seed from group, episode and turn, so that any order and any rank give the same tokens."""
        digest = hashlib.blake2b(f"{self.seed}/{group}/{episode}/{turn}".encode(), digest_size=4).digest()
        return Sampling(
            temperature=self.options.temperature,
            top_p=self.options.top_p,
            top_k=self.options.top_k,
            min_p=self.options.min_p,
            max_tokens=self.options.max_completion_length,
            seed=int.from_bytes(digest, "big") >> 1,
        )


def check_errors(played: Sequence[Trajectory], allowed: float) -> None:
    """Stop where graders or environments fail too often to go on.

    Raises:
        RewardError: the share of episodes without a score is above `allowed`; quotes one reason.
    """
    failed = [trajectory for trajectory in played if trajectory.earned is None]
    if played and len(failed) > allowed * len(played):
        first, score = failed[0], failed[0].score
        place = f"problem {first.problem.id}: "
        verdict, reason = (score.verdict, score.reason) if score else ("no score", first.reason)
        slow = ", raise rollout.reward_timeout_s" if verdict == "timeout" else ""
        raise RewardError(
            f"{len(failed)} of {len(played)} episodes could not be scored, above rollout.max_error_share {allowed:g}; "
            f"the first: {place}{verdict}: {reason.removeprefix(place)}. Mend the "
            f"{'environment' if first.status == 'error' else 'reward'}{slow}, or raise rollout.max_error_share to "
            "learn from the others"
        )
