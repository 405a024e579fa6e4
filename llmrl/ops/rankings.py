"""Rankings of answers: a group's order by reward, its weights, and sums over each place of it in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import torch
from torch import Tensor

from llmrl.batch import Batch
from llmrl.ops.credit import NO_SIGNAL, Episode, by_group, total
from llmrl.samples import Sample

RANK, REWARD = "rank", "ranked_reward"
"""Numbers of a sample: the place of its episode, from 0 for the best, and the total reward of its episode."""


def rankings_of(samples: Sequence[Sample]) -> list[list[Episode]]:
    """The episodes of each group, the best first, those with equal rewards in their order.

    A group whose rewards are equal is no ranking; episodes that nobody could judge (reward NaN) are in none.
    """
    rankings = []
    for group in by_group(samples):
        judged = [episode for episode in group if not isnan(total(episode)) and any(row.actions for row in episode)]
        judged.sort(key=lambda episode: (-total(episode), episode[0].episode))
        if len(judged) > 1 and total(judged[0]) - total(judged[-1]) >= NO_SIGNAL:
            rankings.append(judged)
    return rankings


def weigh_rankings(rankings: Sequence[Sequence[Episode]]) -> list[Sample]:
    """The samples of the rankings, with RANK and REWARD; a ranking's tokens share a weight of 1 over G."""
    rows = []
    for ranking in rankings:
        weight = 1.0 / (len(rankings) * sum(row.actions for episode in ranking for row in episode))
        for rank, episode in enumerate(ranking):
            weighed = [row.assign(advantages=0.0, weights=weight) for row in episode if row.actions]
            rows += [row.with_numbers(**{RANK: float(rank), REWARD: total(episode)}) for row in weighed]
    return rows


def rank_sums(numbers: Tensor, batch: Batch) -> Tensor:
    """(G, K): sums of (B, T) `numbers` over the action tokens of each place of each ranking; 0 where there is none.

    It carries the gradient. G is the number of samples, at least that of rankings; K that of the longest. Groups stay
    together (`Update.keep_groups`), and credit comes from `weigh_rankings`.
    """
    ranks = batch.number(RANK).long()
    places = int(ranks.max()) + 1
    place = (batch.group_ids * places + ranks)[batch.sample_ids.clamp(min=0)]
    ours = torch.where(batch.action_mask, numbers, torch.zeros_like(numbers))
    flat = numbers.new_zeros(batch.samples * places)
    return flat.index_add(0, place.flatten(), ours.flatten()).view(-1, places)


def listwise(scores: Tensor, rewards: Tensor, present: Tensor) -> Tensor:
    """(G, K) terms of PRO: each answer against all that are worse, at temperatures that are gaps of rewards.

    Args:
        scores: (G, K) of the answers, the best first; carries the gradient.
        rewards: (G, K) never rising; constants.
        present: (G, K) bool: False behind the end of a ranking.
    Returns:
        (G, K) `log(exp(s_k t_k) + sum over j > k of exp(s_j t_kj)) - s_k t_k`, with `t_kj = r_k - r_j` and t_k the
        largest of them; 0 for the last answer.
    Source: Song et al. 2023 (arXiv 2306.17492), with temperatures as in its code.
    """
    count = scores.shape[1]
    worse = present[:, None, :] & present[:, :, None] & torch.ones(count, count, device=scores.device).triu(1).bool()
    gaps = (rewards[:, :, None] - rewards[:, None, :]).where(worse, scores.new_zeros(()))
    own = scores * gaps.amax(2)
    against = (scores[:, None, :] * gaps).masked_fill(~worse, float("-inf"))
    terms = torch.logsumexp(torch.cat([own[:, :, None], against], 2), 2) - own
    return terms.where(worse.any(2), torch.zeros_like(own))
