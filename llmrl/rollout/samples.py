"""Training samples of a scored episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import nan

import numpy as np

from llmrl.samples import Array, Sample, agent_group, support
from llmrl.types import Trajectory, Turn


def to_samples(trajectory: Trajectory) -> list[Sample]:
    """Samples of a scored episode: a turn goes on in the sample of the turn whose prompt and completion it extends.

    Where two turns extend the same one, the first goes on in its sample, and the other begins a sample in which the
    shared turns are observed: each turn is learned from once. A turn that extends none begins a sample, too.

    Dense rewards are of the last completion; in other turns, and in samples without it, they are 0. An episode without
    a value has no samples.

    Of several agents each has samples of its own turns, numbered among themselves, with its own reward, in a group of
    its own. Turns of opponents are in none of them.
    """
    return [sample for agent in trajectory.agents for sample in _side(trajectory, agent)]


def _side(trajectory: Trajectory, agent: str) -> list[Sample]:
    """Samples of an agent's turns."""
    score, reward, numbers = trajectory.score, trajectory.earned_by(agent), trajectory.turns_of(agent)
    if score is None or reward is None:
        return []
    turns = [trajectory.turns[number] for number in numbers]
    ends_episode = numbers[-1] == len(trajectory.turns) - 1
    made = []
    for path in paths(turns):
        columns = _columns(turns, path)
        if score.token_rewards is not None:
            dense = np.zeros(len(columns["token_ids"]))
            if turns[path[-1]] is trajectory.last and len(score.token_rewards):
                dense[-len(score.token_rewards) :] = score.token_rewards
            columns["token_rewards"] = dense
        ids, counts = _support(turns, path)
        if counts is not None:
            columns["support_counts"] = counts
        completion = turns[path[0]].completion
        made.append(
            Sample(
                group=agent_group(trajectory.group, agent),
                episode=trajectory.episode,
                reward=reward,
                turn_rewards=[turn.reward for turn in turns],
                semantics=completion.semantics,
                version=completion.version,
                status=trajectory.status,
                truncated=trajectory.truncated and ends_episode,
                correct=score.correct if len(trajectory.agents) == 1 else None,
                agent=agent,
                images=turns[path[-1]].images,
                parts={name: nan if part is None else part for name, part in score.parts.items()},
                support_ids=ids,
                columns=columns,
            )
        )
    return made


def paths(turns: Sequence[Turn]) -> list[list[int]]:
    """Numbers of the turns of each sample: every turn is in one, behind the turn that its prompt extends.

    A turn extends the one before it where it can, else the one whose prompt and completion are the longest beginning of
    its prompt, of several the last.
    """
    found: list[list[int]] = []
    ends: dict[int, list[int]] = {}  # by the last turn of a path: the path
    for number in range(len(turns)):
        before = _extended(turns, number)
        path = None if before is None else ends.pop(before, None)
        if path is None:
            found.append(path := [])
        path.append(number)
        ends[number] = path
    return found


def _extended(turns: Sequence[Turn], number: int) -> int | None:
    turn = turns[number]
    if number and turn.observed_after(turns[number - 1]) is not None:
        return number - 1
    fitting = [
        (len(before.prompt_ids) + len(before.completion.token_ids), earlier)
        for earlier, before in enumerate(turns[:number])
        if turn.observed_after(before) is not None
    ]
    return max(fitting)[1] if fitting else None


def with_views(trajectory: Trajectory, samples: Sequence[Sample]) -> Trajectory:
    """The trajectory with its token columns as views of its samples' columns, which so take memory once.

    In a sample of `to_samples` a turn's prompt is all that lies before its completion. Views compare as arrays do, but
    do not pickle: `llmrl.trajectories.compact` copies them.
    """
    turns = list(trajectory.turns)
    for sample in samples:
        ids = sample.token_ids.data
        logprobs = sample.sampled_logprobs.data if "sampled_logprobs" in sample.columns else None
        numbers = trajectory.turns_of(sample.agent)
        for own in np.unique(sample.turn_ids[sample.action_mask]).tolist():
            turn = turns[number := numbers[own]]
            begin = len(turn.prompt_ids)
            span = slice(begin, begin + len(turn.completion.token_ids))
            recorded = turn.completion.logprobs if logprobs is None else logprobs[span]
            completion = replace(turn.completion, token_ids=ids[span], logprobs=recorded)
            turns[number] = replace(turn, prompt_ids=ids[:begin], completion=completion)
    return replace(trajectory, turns=turns)


def _columns(turns: Sequence[Turn], path: Sequence[int]) -> dict[str, Array]:
    """Tokens, turns and the engine's log-probabilities of a sample: observed ones, then sampled ones, turn by turn."""
    token_ids: list[Array] = []
    turn_ids: list[Array] = []
    logprobs: list[Array] = []
    seen, recorded = 0, True
    for number in path:
        completion = turns[number].completion
        observed, sampled = _ids(turns[number].prompt_ids)[seen:], _ids(completion.token_ids)
        recorded &= len(completion.logprobs) == len(sampled)
        token_ids += [observed, sampled]
        turn_ids += [np.full(len(observed), -1), np.full(len(sampled), number)]
        logprobs += [np.zeros(len(observed), np.float32), np.asarray(completion.logprobs, np.float32)]
        seen += len(observed) + len(sampled)
    parts = {"token_ids": token_ids, "turn_ids": turn_ids} | ({"sampled_logprobs": logprobs} if recorded else {})
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _support(turns: Sequence[Turn], path: Sequence[int]) -> tuple[Array | None, Array | None]:
    """`support_ids` and `support_counts` of a sample; None where a completion lacks them."""
    ids: list[Array] = []
    counts: list[Array] = []
    seen = 0
    for turn in (turns[number] for number in path):
        sets = turn.completion.support_ids
        if sets is None or len(sets) != len(turn.completion.token_ids):
            return None, None
        sampled_among, sizes = support(sets)
        ids.append(sampled_among)
        counts += [np.zeros(len(turn.prompt_ids) - seen, np.int32), sizes]
        seen = len(turn.prompt_ids) + len(sizes)
    return np.concatenate(ids), np.concatenate(counts)


def _ids(numbers: Sequence[int]) -> Array:
    """Token ids as an array; without a copy where they are one of the standard library's."""
    return np.asarray(numbers, np.int32)
