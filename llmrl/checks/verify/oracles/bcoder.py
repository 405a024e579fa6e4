"""B-Coder by its equations (docs/algorithms/bcoder.md), one token at a time, without `llmrl.ops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmrl.checks.verify.form import Numbers, OracleAnswer
from llmrl.samples import Sample


def bcoder(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """Squared Bellman errors, by V with old advantages and by the advantages with old V; imitation of ground truth."""
    known = [i for i, row in enumerate(rows) if row.reward == row.reward]
    names = ("values", "logprobs", "peak_logprobs")
    slopes = {name: [[0.0] * len(row.token_ids) for row in rows] for name in names}
    value = policy = 0.0
    for i in known:
        row, acts = rows[i], [t for t, turn in enumerate(rows[i].turn_ids) if turn >= 0]
        share = 1 / (len(known) * len(acts))
        marked = row.numbers.get("is_ground_truth", 0.0) > 0
        truth = marked if algorithm.ground_truth == "marked" else row.reward >= algorithm.max_reward
        for place, t in enumerate(acts):
            target = _target(algorithm, row, acts, place)
            before = algorithm.alpha * (float(row.old_logprobs[t]) - float(row.old_peak_logprobs[t]))
            error = before + said[i]["values"][t] - target
            value += share * error * error
            slopes["values"][i][t] += 2 * share * error
            now = algorithm.alpha * (said[i]["logprobs"][t] - said[i]["peak_logprobs"][t])
            error = now + float(row.values[t]) - target
            slope = 2 * share * error
            policy += share * error * error
            if truth:  # sums over tokens, means over answers
                policy += algorithm.advantage_coef * abs(now) / len(known)
                policy -= algorithm.nll_coef * said[i]["logprobs"][t] / len(known)
                slope -= algorithm.advantage_coef / len(known)
                slopes["logprobs"][i][t] -= algorithm.nll_coef / len(known)
            slopes["logprobs"][i][t] += slope * algorithm.alpha
            slopes["peak_logprobs"][i][t] -= slope * algorithm.alpha
    answers = {"critic": OracleAnswer(value, {"values": slopes.pop("values")})}
    return answers if algorithm.stage == "values" else answers | {"policy": OracleAnswer(policy, slopes)}


def _target(algorithm: Any, row: Sample, acts: Sequence[int], place: int) -> float:
    """Reward of an action, and behind it Q of the token that the reference finds likeliest. Each row is an episode."""
    t, last = acts[place], place == len(acts) - 1
    upto = len(row.token_ids) if last else acts[place + 1]
    since = t if place else 0  # what is earned before any action belongs to the first
    reward = float(sum(row.get("token_rewards")[since:upto])) if "token_rewards" in row.columns else 0.0
    if last:
        return reward + row.reward
    ahead = acts[place + 1]
    lead: float = algorithm.alpha * (float(row.old_other_logprobs[ahead]) - float(row.old_peak_logprobs[ahead]))
    return reward + float(algorithm.gamma) * (float(row.values[ahead]) + lead)
