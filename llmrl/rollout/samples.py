"""Training samples of a scored episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from llmrl.samples import Array, Sample, support
from llmrl.types import Trajectory, Turn


def to_samples(trajectory: Trajectory) -> list[Sample]:
    """Samples of a scored episode: a new one wherever a prompt does not extend the prompt and completion before it.

    Dense rewards are of the last completion; in other turns, and in samples without it, they are 0. An episode without
    a value has no samples.
    """
    score, reward, turns = trajectory.score, trajectory.earned, trajectory.turns
    if score is None or reward is None or not turns:
        return []
    made = []
    for first, last in _stretches(turns):
        columns = _columns(turns, first, last)
        if score.token_rewards is not None:
            dense = np.zeros(len(columns["token_ids"]))
            if last == len(turns) and len(score.token_rewards):
                dense[-len(score.token_rewards) :] = score.token_rewards
            columns["token_rewards"] = dense
        ids, counts = _support(turns, first, last)
        if counts is not None:
            columns["support_counts"] = counts
        completion = turns[first].completion
        made.append(
            Sample(
                group=trajectory.group,
                episode=trajectory.episode,
                reward=reward,
                turn_rewards=[turn.reward for turn in turns],
                semantics=completion.semantics,
                version=completion.version,
                status=trajectory.status,
                truncated=trajectory.truncated,
                correct=score.correct,
                parts={name: part for name, part in score.parts.items() if part is not None},
                support_ids=ids,
                columns=columns,
            )
        )
    return made


def with_views(trajectory: Trajectory, samples: Sequence[Sample]) -> Trajectory:
    """The trajectory with its token columns as views of its samples' columns, which so take memory once.

    In a sample of `to_samples` a turn's prompt is all that lies before its completion. Views compare as arrays do, but
    do not pickle: `llmrl.trajectories.compact` copies them.
    """
    turns = list(trajectory.turns)
    for sample in samples:
        ids = sample.token_ids.data
        logprobs = sample.sampled_logprobs.data if "sampled_logprobs" in sample.columns else None
        for number in np.unique(sample.turn_ids[sample.action_mask]).tolist():
            turn = turns[number]
            begin = len(turn.prompt_ids)
            span = slice(begin, begin + len(turn.completion.token_ids))
            recorded = turn.completion.logprobs if logprobs is None else logprobs[span]
            completion = replace(turn.completion, token_ids=ids[span], logprobs=recorded)
            turns[number] = replace(turn, prompt_ids=ids[:begin], completion=completion)
    return replace(trajectory, turns=turns)


def _columns(turns: Sequence[Turn], first: int, last: int) -> dict[str, Array]:
    """Tokens, turns and the engine's log-probabilities of a sample: observed ones, then sampled ones, turn by turn."""
    token_ids: list[Array] = []
    turn_ids: list[Array] = []
    logprobs: list[Array] = []
    seen, recorded = 0, True
    for number in range(first, last):
        completion = turns[number].completion
        observed, sampled = _ids(turns[number].prompt_ids)[seen:], _ids(completion.token_ids)
        recorded &= len(completion.logprobs) == len(sampled)
        token_ids += [observed, sampled]
        turn_ids += [np.full(len(observed), -1), np.full(len(sampled), number)]
        logprobs += [np.zeros(len(observed), np.float32), np.asarray(completion.logprobs, np.float32)]
        seen += len(observed) + len(sampled)
    parts = {"token_ids": token_ids, "turn_ids": turn_ids} | ({"sampled_logprobs": logprobs} if recorded else {})
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _support(turns: Sequence[Turn], first: int, last: int) -> tuple[Array | None, Array | None]:
    """`support_ids` and `support_counts` of a sample; None where a completion lacks them."""
    ids: list[Array] = []
    counts: list[Array] = []
    seen = 0
    for turn in turns[first:last]:
        sets = turn.completion.support_ids
        if sets is None or len(sets) != len(turn.completion.token_ids):
            return None, None
        sampled_among, sizes = support(sets)
        ids.append(sampled_among)
        counts += [np.zeros(len(turn.prompt_ids) - seen, np.int32), sizes]
        seen = len(turn.prompt_ids) + len(sizes)
    return np.concatenate(ids), np.concatenate(counts)


def _stretches(turns: Sequence[Turn]) -> list[tuple[int, int]]:
    """Runs of turns in which each prompt begins with the last prompt and its completion."""
    cuts = [0, *(i for i in range(1, len(turns)) if turns[i].observed_after(turns[i - 1]) is None)]
    return list(zip(cuts, [*cuts[1:], len(turns)], strict=True))


def _ids(numbers: Sequence[int]) -> Array:
    """Token ids as an array; without a copy where they are one of the standard library's."""
    return np.asarray(numbers, np.int32)
