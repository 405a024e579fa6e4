"""The gold reward: a second reward that nothing learns from, compared with the training reward during a run."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from statistics import fmean
from typing import Any

from llmrl.aio import wait
from llmrl.ops.divergence import ALARM, GradedTwice, compared, divergence, halves
from llmrl.plugins import name_of
from llmrl.recipe import AuditOptions
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.train.parallel import gather
from llmrl.train.parts import Clock, FinishedStep
from llmrl.trajectories import compact
from llmrl.types import Score, Trajectory

log = logging.getLogger(__name__)


class GoldReward:
    """The recipe's `audit`: scores a share of a step's episodes by the gold reward; an alarm where the rewards part.

    The main process grades; every rank gets the same metrics, and so the same alarm.
    """

    def __init__(
        self,
        options: AuditOptions,
        pool: GradingPool,
        *,
        seed: int,
        rank: tuple[int, int],
        clock: Clock | None = None,
    ) -> None:
        self._options = options
        self._clock = clock or Clock()
        self._seed = seed
        self._rank, self._ranks = rank
        self._reward = None if options.reward is None else as_group_reward(options.reward, pool)
        self._window: list[tuple[int, float, float]] = []  # step, mean proxy, mean gold
        self._alarmed = False
        self.scores: dict[tuple[str, int], Score] = {}  # of the last step, by group and episode; of the main process
        self.alarm = ""  # warning of the last step; "" where there is none

    @property
    def stops(self) -> bool:
        """True if the run should end here."""
        return bool(self.alarm) and self._options.stop

    def due(self, step: int) -> bool:
        """True if the step is audited."""
        return self._reward is not None and step % self._options.every == 0

    def after_step(self, finished: FinishedStep) -> None:
        """Compare when it is time; an alarm that stops ends the run behind a checkpoint. Collective."""
        with self._clock("audit") if self.due(finished.step) else nullcontext():
            finished.metrics |= self(finished.step, finished.groups)
        finished.audited = self.scores
        if self.stops:
            finished.alarm = self.alarm

    def __call__(self, step: int, groups: Sequence[Sequence[Trajectory]]) -> dict[str, float]:
        """Score a share of a step's episodes; `audit/...`, nothing in steps without an audit. Collective."""
        self.scores, self.alarm = {}, ""
        if not self.due(step):
            return {}
        chosen = [[episode for episode in group if self._chosen(step, episode)] for group in groups if self._rank == 0]
        pairs, asked = self._compared([group for group in chosen if group])
        pairs, asked = gather([(pairs, asked)], self._ranks)[0]
        metrics = {"audit/episodes": float(asked), **compared(pairs)}
        if asked:
            metrics["audit/unjudged_frac"] = 1.0 - len(pairs) / asked
            self._warn_unjudged(step, len(pairs), asked)
        if pairs:
            self._window.append((step, metrics["audit/proxy_mean"], metrics["audit/true_mean"]))
            self._window = self._window[-self._options.window :]
        return metrics | self._watch(step)

    def state(self) -> dict[str, Any]:
        """The state that a resumed run needs to give the same alarms."""
        return {"window": self._window, "alarmed": self._alarmed}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._window = [(int(step), float(proxy), float(truth)) for step, proxy, truth in state["window"]]
        self._window = self._window[-self._options.window :]
        self._alarmed = bool(state["alarmed"])

    def _chosen(self, step: int, episode: Trajectory) -> bool:
        """Choose scored episodes by a hash of step, group and episode, so that time and rank do not matter."""
        name = f"{self._seed}/audit/{step}/{episode.group}/{episode.episode}"
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        return episode.earned is not None and int.from_bytes(digest) < self._options.share * 2**64

    def _compared(self, groups: Sequence[Sequence[Trajectory]]) -> tuple[list[GradedTwice], int]:
        """Proxy and gold rewards of the episodes, and the number of episodes that were scored again."""
        if self._reward is None or not groups:
            return [], 0
        given = wait(self._graded([[compact(episode) for episode in group] for group in groups]))
        self._reward.latencies()  # not the training reward's: read, so that they do not pile up
        pairs = []
        for episode, gold in given:
            self.scores[episode.group, episode.episode] = gold
            if episode.score is not None and episode.earned is not None and gold.value is not None:
                proxy = episode.earned + sum(episode.score.token_rewards or ())
                pairs.append(GradedTwice(proxy, gold.value, episode.score.correct, gold.correct))
        return pairs, len(given)

    async def _graded(self, groups: Sequence[Sequence[Trajectory]]) -> list[tuple[Trajectory, Score]]:
        assert self._reward is not None
        bare = [[replace(episode, score=None) for episode in group] for group in groups]
        given = await asyncio.gather(*(self._reward.score(group) for group in bare))
        return [pair for group, scores in zip(groups, given, strict=True) for pair in zip(group, scores, strict=True)]

    def _watch(self, step: int) -> dict[str, float]:
        """Set the alarm, once the window is full."""
        if len(self._window) < self._options.window:
            return {}
        _, proxy, truth = zip(*self._window, strict=True)
        apart = divergence(proxy, truth)
        self.alarm = self._warning(step, proxy, truth) if apart >= ALARM else ""
        if self.alarm and not self._alarmed and self._rank == 0:
            log.warning(self.alarm)
        self._alarmed = bool(self.alarm)
        return {"audit/divergence": apart, "audit/alarm": float(self._alarmed)}

    def _warning(self, step: int, proxy: Sequence[float], truth: Sequence[float]) -> str:
        training, gold = [[fmean(half) for half in halves(values)] for values in (proxy, truth)]
        return (
            f"step {step}: since step {self._window[0][0]} the training reward rose from {training[0]:.4g} to "
            f"{training[1]:.4g} while the gold reward fell from {gold[0]:.4g} to {gold[1]:.4g}: likely reward hacking. "
            f"Read the episodes with `audit` in rollouts.jsonl (by {name_of('reward', self._options.reward)}), "
            "attack the training reward with `llmrl audit-reward`, mend it, and begin again from before that step"
        )

    def _warn_unjudged(self, step: int, judged: int, asked: int) -> None:
        if self._rank == 0 and judged < asked / 2:
            reason = next((score.reason for score in self.scores.values() if score.value is None), "")
            log.warning(
                f"step {step}: the audit's reward gave no value for {asked - judged} of {asked} episodes: {reason}. "
                "Until it does, they are not compared"
            )
