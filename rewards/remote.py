"""Scores by a reward server, which may be restarted while the run goes on: `llmrl serve-reward`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from llmrl.clients import retry
from llmrl.clients.addresses import require_url
from llmrl.errors import DataError, RewardError
from llmrl.recipe.ranges import Seconds
from llmrl.scoring import serialization
from llmrl.scoring.manager import GradingPool
from llmrl.scoring.trl_functions import Timed, TrainerState
from llmrl.types import Score, Trajectory, Verdict

ABSENT = (retry.AWAY, 429, 502, 503)  # nobody is there, or has room yet: worth waiting for
WRONG = (*retry.REFUSALS, 400, 422)  # the key, the address, the form of requests, or a refusal by the reward itself


@dataclass(frozen=True, kw_only=True)
class Remote:
    """Scores of a server's reward, with all their fields; every request is a whole group.

    A server that is away, starting or full is waited for up to `patience_s`; then the run stops, or with `give_up:
    error` the group has no values. A late, broken or senseless reply is asked for again `retries` times; then the group
    is a `timeout` or an `error`, without values. Not bound by `rollout.reward_timeout_s`.

    Raises:
        RewardError: while it scores: patience is spent, the server refuses every request, or its reward raised one.
    """

    url: str = "http://127.0.0.1:8100"
    api_key_variable: str = "LLMRL_REWARD_API_KEY"  # the environment variable that holds the key, if there is one
    timeout_s: Seconds = 120.0  # of one try; the server's own limits should be below
    retries: int = 2  # after a late, broken or senseless reply
    pause_s: float = 0.5  # before the first retry; doubles up to a minute
    patience_s: float = 600.0  # of a group, all its tries and pauses together
    give_up: Literal["stop", "error"] = "stop"
    concurrency: int = 32  # groups at a time, of this process

    def __post_init__(self) -> None:
        self.bounds()
        if self.concurrency < 1:
            raise ValueError(f"concurrency {self.concurrency}: expected at least 1")
        require_url(self.url, "http://127.0.0.1:8100")

    def bounds(self) -> retry.Bounds:
        """Bounds of a single request."""
        return retry.Bounds(
            timeout_s=self.timeout_s, retries=self.retries, pause_s=self.pause_s, patience_s=self.patience_s
        )

    def as_group_reward(self, pool: GradingPool) -> RemoteReward:
        """Make the group reward. Its time limits are its own: a pool's are for work that keeps a processor busy."""
        return RemoteReward("remote", options=self, state=pool.trainer_state, gates=retry.Gates(self.concurrency))


@dataclass
class RemoteReward(Timed):
    """Sends groups to a server and checks its replies."""

    options: Remote = field(kw_only=True)
    state: TrainerState = field(kw_only=True)
    gates: retry.Gates = field(kw_only=True)

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        if not group:
            return []
        start = time.monotonic()
        try:
            scores = await self._asked(group)
        except retry.UnansweredError as error:
            scores = self._unscored(group, error)
        self.seconds += [(time.monotonic() - start) / len(group)] * len(group)
        return scores

    async def _asked(self, group: Sequence[Trajectory]) -> list[Score]:
        place = serialization.Place(self.state.global_step, self.state.max_steps, self.state.epoch)
        try:
            body = serialization.request_to_json(group, place)
        except DataError as error:
            raise RewardError(f"reward remote: {error}") from None
        headers = {"Content-Type": "application/json"}
        url, key = f"{self.options.url.rstrip('/')}/score", os.environ.get(self.options.api_key_variable)
        async with retry.client(self.options.url, key, 1) as client:
            return await retry.tried(
                lambda: client.post(url, content=body, headers=headers),
                lambda reply: serialization.scores_from_json(reply.content, len(group)),
                self.options.bounds(),
                self.gates.here(),
                waits_for=ABSENT,
            )

    def _unscored(self, group: Sequence[Trajectory], error: retry.UnansweredError) -> list[Score]:
        said = f"{self.options.url}: {error}"
        if error.status in WRONG:
            raise RewardError(
                f"reward remote: {said}; check url, ${self.options.api_key_variable} and the server's reward"
            )
        if error.status in ABSENT and self.options.give_up == "stop":
            raise RewardError(
                f"reward remote: {said}; start the server again (llmrl serve-reward) and go on with --resume, or raise "
                "patience_s"
            )
        verdict: Verdict = "timeout" if error.status in (retry.LATE, 504) else "error"
        return [Score(None, verdict, reason=f"problem {one.problem.id}: remote: {said}") for one in group]


plugin = Remote
