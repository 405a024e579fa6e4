"""Transitions of turns: rewards, discounts and advantages at tokens, and the averages over a step's turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import sqrt

import numpy as np

from llmrl.algorithms.archer.options import ArCHerOptions
from llmrl.errors import RecipeError
from llmrl.ops.gae import EPSILON, RunningMoments
from llmrl.ops.turn_terms import turn_bounds
from llmrl.ops.turns import earned_by_turn, rewards_at_ends
from llmrl.samples import Array, Sample


def require_whole(rows: Sequence[Sample]) -> None:
    """Refuse episodes of several samples: the state behind a turn is not in the turn's own.

    Raises:
        RecipeError: an episode has two.
    """
    for (group, episode), count in Counter((row.group, row.episode) for row in rows).items():
        if count > 1:
            raise RecipeError(
                f"group {group}, episode {episode}: it takes {count} samples, since its history was rewritten between "
                "turns, and archer finds the state behind a turn in the same sample; expected a chat template that "
                "only appends (model.chat_template_kwargs), and an environment that keeps the history"
            )


def transitions(row: Sample, options: ArCHerOptions) -> Sample:
    """The sample with reward and discount of each turn at its last token, and its advantage at all of its tokens.

    A proposal has no reward, and no next state. `returns` keeps the advantage, `Q - V`, where `advantages` has
    something else: the weight of awr, or the rest above the token baseline.
    """
    first, last = turn_bounds(row.turn_ids)
    rewards, discounts = np.zeros(len(row.turn_ids)), np.zeros(len(row.turn_ids))
    if row.origin != "proposal":
        rewards = rewards_at_ends(row.turn_ids, earned_by_turn([row]))
        discounts[last[:-1]] = options.gamma
    gained = row.next_values[last].astype(np.float64) - row.values[first]
    own = np.zeros(len(row.turn_ids))
    own[row.action_mask] = np.repeat(gained, _lengths(row))
    columns = {"rewards": rewards, "discounts": discounts, "advantages": own}
    if options.actor_loss == "awr":
        columns["advantages"] = np.minimum(np.exp(np.minimum(options.inv_temp * own, 700.0)), options.max_weight)
    if options.token_baseline:
        columns |= {"returns": own, "advantages": own - row.baselines}
    return row.assign(**columns)


def whitened(rows: Sequence[Sample], options: ArCHerOptions) -> list[Sample]:
    """Samples whose advantages have mean 0 and variance 1, over the turns that the policy learns from.

    A critic's Q and V err together from step to step, by more than the turns of a step differ.
    """
    moments, acting = RunningMoments(), [options.acts(row) for row in rows]
    for row, acts in zip(rows, acting, strict=True):
        moments.add(row.advantages[turn_bounds(row.turn_ids)[1]] if acts else ())
    scale = 1 / sqrt(moments.variance + EPSILON)
    return [
        row.assign(advantages=(row.advantages - moments.mean) * scale * row.action_mask) if acts else row
        for row, acts in zip(rows, acting, strict=True)
    ]


def averaged(rows: Sequence[Sample], options: ArCHerOptions) -> list[Sample]:
    """Samples with the weights of means over turns: of Q's errors, of V's, and of the policy's sums over tokens.

    The critic's terms all weigh 1/M, with M its action tokens; `q_weights` and `v_weights` are M over the number of
    turns that Q and V learn from, at the last token of each, and 0 elsewhere.
    """
    ends = [_ends(row, options) for row in rows]
    q_turns, v_turns, turns = (max(1, sum(map(len, part))) for part in zip(*ends, strict=True)) if rows else (1, 1, 1)
    tokens = sum(row.actions for row in rows)
    cells = _cells([row for row in rows if options.acts(row)], options)
    made = []
    for row, (q, v, acting) in zip(rows, ends, strict=True):
        acts, length = bool(len(acting)), len(row.turn_ids)
        row = row.assign(
            weights=_at(acting, length, 1 / turns) if options.ratio_level == "turn" else acts / turns,
            value_weights=1 / tokens,
            q_weights=_at(q, length, tokens / q_turns),
            v_weights=_at(v, length, tokens / v_turns),
        )
        made.append(row.with_numbers(baseline_share=acts * tokens / cells) if options.token_baseline else row)
    return made


def _ends(row: Sample, options: ArCHerOptions) -> tuple[Array, Array, Array]:
    """Last tokens of the turns from which Q, V and the policy learn."""
    last = turn_bounds(row.turn_ids)[1]
    known = last if row.status == "done" else last[:-1]  # a limit cut the episode off: no state follows its last turn
    parts = (options.bellman, known), (options.values, last), (options.acts, last)
    q, v, acting = (ends if learns(row) else ends[:0] for learns, ends in parts)
    return q, v, acting


def _cells(rows: Sequence[Sample], options: ArCHerOptions) -> int:
    """Divisor of the token baseline's loss: tokens, or those of as many turns, each as long as the longest."""
    lengths = np.concatenate([np.ones(1, np.int64), *(_lengths(row) for row in rows)])[bool(rows) :]
    return int(lengths.sum() if options.baseline_over == "tokens" else lengths.max() * len(lengths))


def _lengths(row: Sample) -> Array:
    """Tokens of each turn."""
    first, last = turn_bounds(row.turn_ids)
    lengths: Array = last - first + 1
    return lengths


def _at(places: Array, length: int, number: float) -> Array:
    column = np.zeros(length)
    column[places] = number
    return column
