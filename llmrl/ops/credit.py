"""Credit over a whole step: one number per episode, or arrays with one entry per token, on the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, isnan, nan, sqrt
from typing import Literal

import numpy as np

from llmrl.errors import RecipeError
from llmrl.ops.kl import LIMIT
from llmrl.samples import Array, Sample

Scale = Literal["group", "batch", "none"]
Over = Literal["token", "sequence", "constant", "sequence_sum"]
Episode = list[Sample]
"""The samples of an episode: one, or several where its history was rewritten."""

NO_SIGNAL = 1e-6
"""A group whose rewards lie closer together than this has no signal; dividing by the deviation would amplify noise."""
EPSILON = 1e-4
"""Added to the standard deviation, as TRL does."""


def by_group(samples: Sequence[Sample]) -> list[list[Episode]]:
    """Groups, each a list of episodes, each a list of samples; all in the order in which they first appear."""
    groups: dict[str, dict[int, Episode]] = {}
    for row in samples:
        groups.setdefault(row.group, {}).setdefault(row.episode, []).append(row)
    return [list(episodes.values()) for episodes in groups.values()]


def total(episode: Episode) -> float:
    """Sum of an episode's reward and the dense rewards of its tokens. NaN where it could not be judged.

    For algorithms that give an episode one credit. With rewards that telescope (`clip_delta`, form delta) the sum is
    the score of the first step alone: those want an algorithm that looks at tokens.
    """
    return episode[0].reward + sum(float(np.sum(row.get("token_rewards", 0.0))) for row in episode)


def refuse_dense(samples: Sequence[Sample], name: str) -> None:
    """Refuse dense rewards, for algorithms that learn from verdicts alone and would ignore them.

    Raises:
        RecipeError: some token has one.
    """
    for row in samples:
        if np.any(row.get("token_rewards", 0.0)):
            raise RecipeError(
                f"group {row.group}, episode {row.episode}: its tokens have rewards of their own, and {name} learns "
                "from right and wrong alone; expected a reward without dense parts, or another algorithm, such as ppo"
            )


def refuse_single_answers(samples: Sequence[Sample], name: str) -> None:
    """Refuse a step in which no problem has two answers, for algorithms that compare them and would learn nothing.

    Raises:
        RecipeError: every group is a single episode.
    """
    groups = by_group(samples)
    if groups and all(len(group) == 1 for group in groups):
        raise RecipeError(
            f"algorithm {name}: none of the step's {len(groups)} problems has two answers to compare; expected data "
            "with groups (chosen and rejected, responses with rewards), or rollout.num_generations of at least 2"
        )


def center(groups: Sequence[Sequence[float]], scale: Scale = "group") -> list[list[float]]:
    """Advantages: each reward less the mean of its group, scaled.

    Args:
        groups: rewards, one per episode. NaN is a reward that could not be given.
        scale: what to divide by. "group": the standard deviation within the group; "batch": of all rewards of the step;
            both with Bessel's correction, plus EPSILON. "none": nothing.
    Returns:
        Advantages in the same order. Exactly 0.0 in a group without a signal (one reward, or all equal) and where the
        reward is NaN, which is left out of every mean and deviation.
    Source: DeepSeekMath (arXiv 2402.03300), section 4.1.2; without scale Dr. GRPO (arXiv 2503.20783).
    """
    everything = _given([reward for group in groups for reward in group])
    shared = _deviation(everything) + EPSILON if scale == "batch" else 1.0
    return [_center(group, shared, scale) for group in groups]


def by_channel(
    groups: Sequence[Sequence[Episode]], channels: Mapping[str, float], scale: Scale = "group"
) -> list[list[float]]:
    """Advantages as a weighted sum over named parts of the reward: weight times `center` of each part.

    With scale "none" that is `center` of the weighted sum. With "group" a part counts by its weight however little it
    varies within the group, and nothing where it does not vary at all.

    Args:
        groups: episodes; where the reward is NaN, no part is read.
        channels: weights by the name of a part, as in `Sample.parts`.
        scale: as for `center`, of each part by itself.
    Source: GDPO (arXiv 2601.05242), without its division of the sum by its deviation over the step.
    Raises:
        RecipeError: a reward has no such part, or is more than its parts.
    """
    apart = [center([[_part(episode, name) for episode in group] for group in groups], scale) for name in channels]
    weights = list(channels.values())
    return [
        [sum(w * part for w, part in zip(weights, parts, strict=True)) for parts in zip(*of_group, strict=True)]
        for of_group in zip(*apart, strict=True)
    ]


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    """Advantages: each reward of a group less the mean of the others; 0.0 where it is NaN or alone.

    Source: Kool et al. 2019; for language models Ahmadian et al. 2024 (arXiv 2402.14740).
    """
    given = _given(rewards)
    if not _has_signal(given):
        return [0.0] * len(rewards)
    mean, share = sum(given) / len(given), len(given) / (len(given) - 1)
    return [0.0 if isnan(reward) else (reward - mean) * share for reward in rewards]


def average(rows: Sequence[Sample], over: Over, length: int | None = None) -> list[Sample]:
    """Set `weights` to `token_weights`: the objective of a step is `sum(terms * weights)` over all of its samples.

    Arguments and errors are those of `token_weights`.
    """
    return [row.assign(weights=own) for row, own in zip(rows, token_weights(rows, over, length), strict=True)]


def token_weights(rows: Sequence[Sample], over: Over, length: int | None = None) -> list[float]:
    """Weight of each action token of a sample, one number for each sample.

    Args:
        rows: every sample of the step that counts; one that is left out leaves the denominators too.
        over: "token": each action token weighs 1/N. "sequence": each episode weighs 1/B, shared by its tokens.
            "constant": each token weighs 1/(B * length), whatever the lengths are. "sequence_sum": each token weighs
            1/B, so that a policy gradient is that of whole answers.
        length: tokens; for "constant".
    Returns:
        Weights in the order of the samples, 0.0 of one without actions. N counts action tokens, B episodes with at
        least one; an episode that takes several samples counts once.
    Source: DAPO (arXiv 2503.14476), DeepSeekMath (arXiv 2402.03300), Dr. GRPO (arXiv 2503.20783), RLOO (arXiv
        2402.14740), in the order above.
    Raises:
        ValueError: "constant" without a positive length.
    """
    if over == "constant" and (length is None or length < 1):
        raise ValueError(f"average over a constant: length {length}; expected the largest number of tokens, at least 1")
    tokens: dict[tuple[str, int], int] = {}
    actions = [row.actions for row in rows]
    for row, own in zip(rows, actions, strict=True):
        tokens[row.group, row.episode] = tokens.get((row.group, row.episode), 0) + own
    total = sum(tokens.values())
    episodes = sum(n > 0 for n in tokens.values())
    shares = []
    for row, own in zip(rows, actions, strict=True):
        divisors = {"token": total, "sequence": episodes * tokens[row.group, row.episode]}
        divisors |= {"constant": episodes * (length or 0), "sequence_sum": episodes}
        shares.append(1.0 / divisors[over] if own else 0.0)
    return shares


def most_uncertain(rows: Sequence[Sample], share: float) -> list[Sample]:
    """Keep the advantages of the tokens with the highest entropy; those of the others become 0.0.

    Args:
        rows: every sample of the step that counts, with `old_entropy` and advantages.
        share: of all action tokens, from 0 to 1: those stay whose entropy is at least its (1 - share)-quantile (between
            two neighbours by interpolation, as torch.quantile). Equal entropies stay or go together; 0 leaves the
            highest alone, 1 every one.
    Returns:
        The samples in the same order, weights as they were: a token without an advantage stays in the denominators.
    Source: arXiv 2506.01939; TRL's `top_entropy_quantile`, which asks the tokens of a micro-batch.
    """
    known = np.concatenate([np.zeros(0), *(row.old_entropy[row.action_mask] for row in rows)])
    if not len(known):
        return list(rows)
    # What reaches the interpolated quantile reaches its upper neighbour; 1 - 0.7 is a hair above 0.3
    place = ceil((len(known) - 1) * (1.0 - share) - 1e-9)
    least = np.partition(known, place)[place]
    return [row.assign(advantages=np.where(row.old_entropy >= least, row.advantages, 0.0)) for row in rows]


def divergence_as_k1(row: Sample) -> Array:
    """k1 of each token, `log(old / ref)`, whose sum over an answer estimates KL(old, ref); 0.0 at other tokens.

    It belongs into a reward, as a constant: only there its policy gradient is that of the divergence (`llmrl.ops.kl`).
    """
    apart = np.subtract(row.old_logprobs, row.ref_logprobs, dtype=np.float64)
    return np.where(row.action_mask, np.clip(apart, -LIMIT, LIMIT), 0.0)


def penalised(episode: Episode, beta: float) -> float:
    """Total reward less beta times the summed k1; NaN stays NaN. Columns are read only if beta is not 0."""
    reward = total(episode)
    if not beta or isnan(reward):
        return reward
    return reward - beta * sum(float(divergence_as_k1(row).sum()) for row in episode)


def counts(episode: Episode, mask_truncated: bool) -> bool:
    """True if the episode is in the objective: it was judged, and it is not truncated while `mask_truncated`.

    An episode that does not count was still part of its group's baseline. Drop it before `average`, which then leaves
    it out of the denominators.
    """
    return not isnan(episode[0].reward) and not (mask_truncated and any(row.truncated for row in episode))


def has_credit(row: Sample) -> bool:
    """True if a token of the sample has an advantage. Without it, and without another term, there is no gradient."""
    return bool(np.any(row.advantages))


def _part(episode: Episode, name: str) -> float:
    """A named part of the episode's reward; NaN where the reward could not be given, or the part abstained."""
    first, place = episode[0], f"group {episode[0].group}, episode {episode[0].episode}"
    if isnan(first.reward):
        return nan
    if any(first.turn_rewards) or any(np.any(row.get("token_rewards", 0.0)) for row in episode):
        raise RecipeError(
            f"{place}: tokens or the environment earned something besides the reward, which no part holds; expected a "
            "reward without dense parts and an environment without rewards, or algorithm.channels=null"
        )
    if name not in first.parts:
        raise RecipeError(
            f"{place}: its reward has no part {name!r}, which algorithm.channels names; expected one of "
            f"{', '.join(sorted(first.parts)) or 'none: this reward has no parts'}"
        )
    return first.parts[name]


def _center(group: Sequence[float], shared: float, scale: Scale) -> list[float]:
    given = _given(group)
    if not _has_signal(given):
        return [0.0] * len(group)
    mean = sum(given) / len(given)
    divisor = _deviation(given) + EPSILON if scale == "group" else shared
    return [0.0 if isnan(reward) else (reward - mean) / divisor for reward in group]


def _given(rewards: Sequence[float]) -> list[float]:
    return [reward for reward in rewards if not isnan(reward)]


def _has_signal(rewards: Sequence[float]) -> bool:
    return len(rewards) > 1 and max(rewards) - min(rewards) >= NO_SIGNAL


def _deviation(rewards: Sequence[float]) -> float:
    if len(rewards) < 2:
        return 0.0
    mean = sum(rewards) / len(rewards)
    return sqrt(sum((reward - mean) ** 2 for reward in rewards) / (len(rewards) - 1))
