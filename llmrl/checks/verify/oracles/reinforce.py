"""RLOO and REINFORCE++ by their equations (docs/algorithms/rloo.md, reinforce_pp.md), without `llmrl.ops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmrl.checks.verify.form import Numbers, OracleAnswer
from llmrl.checks.verify.oracles.group import NO_SIGNAL, clipped_token, engine_weights
from llmrl.checks.verify.oracles.turns import advantages_of_turns
from llmrl.samples import Sample


def rloo(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """Each answer against the mean of the others; every token weighs 1 over the number of answers."""
    if algorithm.credit_level == "turn":
        of_tokens = advantages_of_turns(
            rows, [_divergence(algorithm, row) for row in rows], algorithm.turn_discount, left_out
        )
        spread = [[own[t] for t in _acts(row)] for own, row in zip(of_tokens, rows, strict=True)]
    else:
        advantages = left_out([row.group for row in rows], [row.reward - sum(_costs(algorithm, row)) for row in rows])
        spread = [[advantage] * len(_acts(row)) for advantage, row in zip(advantages, rows, strict=True)]
    counts = [_counts(algorithm, row) for row in rows]
    share = 1.0 / max(1, sum(counts))
    clipped = algorithm.num_iterations * algorithm.minibatches > 1
    return _answer(algorithm, rows, said, counts, spread, share, clipped)


def left_out(groups: Sequence[str], scores: Sequence[float]) -> list[float]:
    """Each score less the mean of the others of its group; 0 where it is NaN or the group says nothing."""
    advantages = []
    for group, score in zip(groups, scores, strict=True):
        siblings = [s for other, s in zip(groups, scores, strict=True) if other == group and not np.isnan(s)]
        says = len(siblings) > 1 and max(siblings) - min(siblings) >= NO_SIGNAL and not np.isnan(score)
        advantages.append((score - (sum(siblings) - score) / (len(siblings) - 1)) if says else 0.0)
    return advantages


def reinforce_pp(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """Discounted returns over action tokens, whitened over the step; every token weighs the same."""
    counts = [_counts(algorithm, row) for row in rows]
    returns: list[list[float]] = []
    for row in rows:
        siblings = [other.reward for other in rows if other.group == row.group and not np.isnan(other.reward)]
        score, running, back = row.reward, 0.0, []
        if algorithm.baseline == "group":
            says = len(siblings) > 1 and max(siblings) - min(siblings) >= NO_SIGNAL
            score = row.reward - float(np.mean(siblings)) if says else 0.0
        costs, acts = _costs(algorithm, row), _acts(row)
        of_turns = row.turn_rewards if algorithm.credit_level == "turn" else [0.0] * len(row.turn_rewards)
        score -= sum(of_turns)
        for i in reversed(range(len(costs))):
            ends = i + 1 == len(acts) or row.turn_ids[acts[i]] != row.turn_ids[acts[i + 1]]
            reward = of_turns[row.turn_ids[acts[i]]] if ends else 0.0
            discount = algorithm.gamma * (algorithm.turn_discount if ends else 1.0)
            running = (score if i == len(costs) - 1 else 0.0) + reward - costs[i] + discount * running
            back.append(running)
        returns.append(back[::-1])
    known = np.array([number for line, on in zip(returns, counts, strict=True) if on for number in line])
    mean, deviation = known.mean(), np.sqrt(((known - known.mean()) ** 2).mean() + 1e-8)
    advantages = [[float((number - mean) / deviation) for number in line] for line in returns]
    return _answer(algorithm, rows, said, counts, advantages, 1.0 / len(known), True)


def _answer(
    algorithm: Any,
    rows: Sequence[Sample],
    said: Sequence[Numbers],
    counts: Sequence[bool],
    advantages: Sequence[Sequence[float]],
    share: float,
    clipped: bool,
) -> Mapping[str, OracleAnswer]:
    value, slopes = 0.0, [[0.0] * len(row.token_ids) for row in rows]
    for i, row in enumerate(rows):
        if not counts[i]:
            continue
        acts, new = _acts(row), said[i]["logprobs"]
        old = row.get("old_logprobs", new)
        engine = engine_weights(algorithm, row, old, acts)
        for weight, advantage, t in zip(engine, advantages[i], acts, strict=True):
            term, parts = _term(algorithm, new, old, acts, t, advantage, clipped)
            value += share * weight * term
            for u, slope in parts.items():
                slopes[i][u] += share * weight * slope
    return {"policy": OracleAnswer(value, {"logprobs": slopes})}


def _term(
    algorithm: Any,
    new: Sequence[float],
    old: Sequence[float],
    acts: Sequence[int],
    t: int,
    advantage: float,
    clipped: bool,
) -> tuple[float, dict[int, float]]:
    """The term of a token, and its derivative by log-probabilities."""
    if not clipped:
        return -advantage * new[t], {t: -advantage}
    high = algorithm.epsilon if algorithm.epsilon_high is None else algorithm.epsilon_high
    most = getattr(algorithm, "delta", None)
    if getattr(algorithm, "importance_sampling_level", "token") == "token":
        term, slope = clipped_token(float(np.exp(new[t] - old[t])), advantage, algorithm.epsilon, high, most)
        return term, {t: slope}
    whole = sum(new[u] - old[u] for u in acts)
    if algorithm.importance_sampling_level == "sequence":
        term, slope = clipped_token(float(np.exp(whole / len(acts))), advantage, algorithm.epsilon, high, most)
        return term, {u: slope / len(acts) for u in acts}
    term, slope = clipped_token(float(np.exp(whole)), advantage, algorithm.epsilon, high, most)
    return term / len(acts), {u: slope / len(acts) for u in acts}  # each of the row's tokens repeats one term


def _acts(row: Sample) -> list[int]:
    return [t for t, on in enumerate(row.action_mask) if on]


def _counts(algorithm: Any, row: Sample) -> bool:
    return not np.isnan(row.reward) and not (algorithm.mask_truncated_completions and row.truncated)


def _divergence(algorithm: Any, row: Sample) -> list[float]:
    """beta log(old/ref) of each token; 0 where the policy chose none."""
    if not algorithm.beta:
        return [0.0] * len(row.token_ids)
    on = row.action_mask
    return [
        float(algorithm.beta * (row.old_logprobs[t] - row.ref_logprobs[t])) if on[t] else 0.0 for t in range(len(on))
    ]


def _costs(algorithm: Any, row: Sample) -> list[float]:
    """Cost of each action: its divergence from the reference, less the rewards of its own tokens."""
    acts = _acts(row)
    costs = [0.0] * len(acts)
    for t, reward in enumerate(row.get("token_rewards", ())):  # at an observation: it belongs to the action before
        before = [i for i, act in enumerate(acts) if act <= t]
        costs[before[-1] if before else 0] -= reward
    if not algorithm.beta:
        return costs
    return [
        cost + algorithm.beta * (row.old_logprobs[t] - row.ref_logprobs[t]) for cost, t in zip(costs, acts, strict=True)
    ]
