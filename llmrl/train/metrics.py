"""A step as one flat dict of numbers; the names are TRL's where TRL has one."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import correlation, fmean, stdev
from typing import get_args

from llmrl.scoring.verdicts import verdict_metrics
from llmrl.train.learner import OptimStep
from llmrl.types import Status, Trajectory


def rollout_metrics(groups: Sequence[Sequence[Trajectory]]) -> dict[str, float]:
    """Rewards, verdicts and lengths of a step's episodes; what could not be scored is counted, never averaged in."""
    episodes = [episode for group in groups for episode in group]
    scores = [episode.score for episode in episodes if episode.score is not None]
    metrics = verdict_metrics(scores)
    values = _values(episodes)
    if values:
        spreads = [max(map(_spread, sides)) for group in groups if (sides := _sides(group))]
        metrics["reward"] = fmean(values)
        metrics["reward_std"] = _spread(values)
        metrics["frac_reward_zero_std"] = fmean(spread < 1e-6 for spread in spreads)
    dense = [
        sum(score.token_rewards) for score in scores if score.value is not None and score.token_rewards is not None
    ]
    if dense:
        metrics["reward_dense"] = fmean(dense)
    for part in sorted({name for score in scores for name in score.parts}):
        given = [value for score in scores if (value := score.parts.get(part)) is not None]
        if given:
            metrics[f"rewards/{part}/mean"] = fmean(given)
            metrics[f"rewards/{part}/std"] = _spread(given)
    judged = [score.correct for score in scores if score.value is not None and score.correct is not None]
    if judged:
        metrics["accuracy"] = fmean(judged)
    return metrics | _by_verdict(episodes) | _lengths(episodes) | _turns(episodes) | _by_agent(episodes)


def fit_metrics(fits: Sequence[OptimStep]) -> dict[str, float]:
    """The mean over a step's optimiser steps, and how many tokens they took; skipped updates count apart.

    What another model than the policy learned carries its name, `critic/loss`, and what an agent's own models learned
    the agent's: `agents/second/loss`, `agents/second/critic/loss`.
    """
    applied = [fit for fit in fits if fit.applied]
    columns: dict[str, list[float]] = {}
    for fit in applied:
        for name, value in fit.metrics.items():
            *agent, model = fit.model.rsplit("/", 1)
            place = [*agent, *([] if model == "policy" else [model]), name]
            columns.setdefault("/".join(place), []).append(value)
    metrics = {name: fmean(values) for name, values in sorted(columns.items())}
    if fits:
        slots = sum(fit.slots for fit in fits)
        metrics["perf/padding_fraction"] = 1.0 - sum(fit.tokens for fit in fits) / max(1, slots)
        metrics["updates/skipped"] = float(len(fits) - len(applied))
    return metrics


def _lengths(episodes: Sequence[Trajectory]) -> dict[str, float]:
    spoken = [episode for episode in episodes if episode.own]
    if not spoken:
        return {}
    counts = [_length(episode) for episode in spoken]
    ended = [_length(episode) for episode in spoken if not episode.truncated]
    metrics = _extent("completions/{}_length", counts)
    if ended:
        metrics |= _extent("completions/{}_terminated_length", ended)
    metrics["completions/clipped_ratio"] = 1.0 - len(ended) / len(counts)
    return metrics


def _length(episode: Trajectory) -> int:
    """Tokens of the policy's completions; an opponent's are not its own."""
    return sum(len(turn.completion.token_ids) for turn in episode.own)


def _turns(episodes: Sequence[Trajectory]) -> dict[str, float]:
    """Turns and ends of episodes, where some have several, and the environment's own numbers of them."""
    metrics: dict[str, float] = {}
    if any(len(episode.turns) > 1 for episode in episodes):
        metrics = _extent("turns/{}", [len(episode.turns) for episode in episodes if episode.turns])
        for status in get_args(Status):
            metrics[f"status/{status}_frac"] = fmean(episode.status == status for episode in episodes)
    for name in sorted({name for episode in episodes for name in episode.metrics}):
        metrics[f"env/{name}"] = fmean(episode.metrics[name] for episode in episodes if name in episode.metrics)
    return metrics


def _by_agent(episodes: Sequence[Trajectory]) -> dict[str, float]:
    """Rewards and turns of each agent for which the policy spoke, where several agents did."""
    metrics: dict[str, float] = {}
    for agent in sorted({agent for episode in episodes for agent in episode.agents if agent}):
        sides = [episode for episode in episodes if agent in episode.agents]
        earned = [reward for episode in sides if (reward := episode.earned_by(agent)) is not None]
        metrics |= {f"agents/{agent}/reward": fmean(earned)} if earned else {}
        metrics[f"agents/{agent}/turns"] = fmean(len(episode.turns_of(agent)) for episode in sides)
    return metrics


def _by_verdict(episodes: Sequence[Trajectory]) -> dict[str, float]:
    """Lengths of right and wrong answers, and the correlation of each part of the reward with being right."""
    judged = [
        (episode, episode.score, episode.score.correct)
        for episode in episodes
        if episode.score is not None and episode.score.value is not None and episode.score.correct is not None
    ]
    metrics = {}
    for name, wanted in (("completions/correct_mean_length", True), ("completions/wrong_mean_length", False)):
        counts = [_length(episode) for episode, _, right in judged if right is wanted]
        if counts:
            metrics[name] = fmean(counts)
    for part in sorted({name for _, score, _ in judged for name in score.parts}):
        pairs = [(value, float(right)) for _, score, right in judged if (value := score.parts.get(part)) is not None]
        if any(value > 0 for value, _ in pairs):
            metrics[f"rewards/{part}/paid_wrong_frac"] = fmean(value > 0 and not right for value, right in pairs)
        if pairs and all(_spread(column) > 1e-6 for column in zip(*pairs, strict=True)):
            metrics[f"rewards/{part}/correct_corr"] = correlation(*zip(*pairs, strict=True))
    return metrics


def _extent(name: str, counts: Sequence[int]) -> dict[str, float]:
    return {
        name.format("mean"): fmean(counts),
        name.format("min"): float(min(counts)),
        name.format("max"): float(max(counts)),
    }


def _values(episodes: Sequence[Trajectory]) -> list[float]:
    return [episode.earned for episode in episodes if episode.earned is not None]


def _sides(group: Sequence[Trajectory]) -> list[list[float]]:
    """The rewards of each agent in a group's episodes; a single list where there is one agent."""
    sides: dict[str, list[float]] = {}
    for agent, reward in (side for episode in group for side in episode.outcome.items()):
        if reward is not None:
            sides.setdefault(agent, []).append(reward)
    return list(sides.values())


def _spread(values: Sequence[float]) -> float:
    """The standard deviation, with Bessel's correction as TRL's; 0.0 of a single value."""
    return stdev(values) if len(values) > 1 else 0.0
