"""A game of two turns that is solved exactly: the expected credit of every token against its Q and V.

A turn is two tokens of two symbols. After the first the environment says 0 or 1, by chance, or the task is done; after
the second the task is done, or the limit of turns ends the episode. All episodes are enumerated, so that expectations
are sums: no sampling, no learning, no tolerance for noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from llmrl.checks.verify.form import Check, Form
from llmrl.protocols import Algorithm
from llmrl.samples import Array, Sample

TOLERANCE = 1e-9
JUNK = 7.5  # in every column at tokens that the policy did not choose
CUT_VALUE = 0.6  # of the state in which the limit of turns leaves an episode
State = tuple[int, ...]
"""Tokens so far: of the policy, and of the environment as 2 or 3."""


@dataclass(frozen=True, slots=True)
class Ending:
    """An episode that can happen."""

    states: Sequence[State]  # before each token of the policy
    tokens: Sequence[int]  # that the policy chose there
    rewards: Sequence[float]  # of turns
    chance: float
    cut: bool  # by the limit of turns


def solved(form: Form, seeds: Sequence[int] = ()) -> list[Check]:
    """Check that the expected advantage of each token is its Q less V, up to what the algorithm scales it by.

    Nothing is drawn, so that `seeds`, which other problems take, change nothing.
    """
    algorithm = _bare(form.algorithm)
    endings = list(_endings())
    episodes = [_row(ending, number, form.algorithm) for number, ending in enumerate(endings)]
    pairs = _compares(algorithm)
    expected = _expected(algorithm, endings, episodes, pairs)
    wanted = {place: _q(*place, algorithm) - _v(place[0], algorithm) for place in expected}
    gaps = [_distance(expected, wanted, turn) for turn in (0, 1)]
    checks = [
        Check(
            form.name,
            "learning",
            f"turn {turn}: Q - V",
            gap <= TOLERANCE,
            f"the expected advantages of its tokens in proportion to Q - V, within {TOLERANCE:g}",
            f"largest gap {gap:.1e}",
        )
        for turn, gap in enumerate(gaps)
    ]
    return [*checks, *_targets(form, algorithm, endings, episodes)]


def _bare(algorithm: Any) -> Any:
    """The algorithm without what moves all advantages, or divides those of a group by their own deviation."""
    plain = {"whiten_advantages": False, "kl_coef": 0.0, "beta": 0.0, "scale_rewards": "none"}
    return replace(algorithm, **{name: value for name, value in plain.items() if hasattr(algorithm, name)})


def _compares(algorithm: Algorithm) -> bool:
    return getattr(algorithm, "least_generations", 1) > 1


def _expected(
    algorithm: Any, endings: Sequence[Ending], episodes: Sequence[Sample], pairs: bool
) -> dict[tuple[State, int], float]:
    """Mean advantage of each token in each state; beside every sibling where episodes are compared."""
    if not pairs:
        steps = [([row], [ending.chance]) for row, ending in zip(_credited(algorithm, episodes), endings, strict=True)]
    else:
        steps = [
            (
                _credited(algorithm, [_member(a, first, 0), _member(b, second, 1)]),
                [endings[a].chance * endings[b].chance] * 2,
            )
            for (a, first), (b, second) in product(enumerate(episodes), repeat=2)
        ]
    sums: dict[tuple[State, int], list[float]] = {}
    for rows, chances in steps:
        for row, chance in zip(rows, chances, strict=True):
            number = int(row.numbers["ending"])
            ending, own = endings[number], row.advantages[episodes[number].action_mask]
            for state, token, advantage in zip(ending.states, ending.tokens, own, strict=True):
                total = sums.setdefault((state, token), [0.0, 0.0])
                total[0], total[1] = total[0] + chance * float(advantage), total[1] + chance
    return {place: total / weight for place, (total, weight) in sums.items()}


def _credited(algorithm: Any, rows: Sequence[Sample]) -> list[Sample]:
    """The rows with their credit, in their order; one that was dropped has none."""
    kept = {(row.group, row.episode): row for row in algorithm.credit(rows)}
    return [kept.get((row.group, row.episode), row.assign(advantages=0.0)) for row in rows]


def _member(number: int, row: Sample, episode: int) -> Sample:
    return replace(row, group="pair", episode=episode, numbers={"ending": float(number)})


def _distance(found: Mapping[tuple[State, int], float], wanted: Mapping[tuple[State, int], float], turn: int) -> float:
    """Largest gap between both, each centred by state and scaled to length 1, over the tokens of a turn."""
    places = sorted(place for place in wanted if _turn(place[0]) == turn)
    given, aim = (np.array([_centred(column, place) for place in places]) for column in (found, wanted))
    scale = np.linalg.norm(given)
    return float(np.abs(given / scale - aim / np.linalg.norm(aim)).max()) if scale else float("inf")


def _centred(column: Mapping[tuple[State, int], float], place: tuple[State, int]) -> float:
    state, token = place
    return column[state, token] - sum(_policy(state)[other] * column[state, other] for other in (0, 1))


def _targets(form: Form, algorithm: Any, endings: Sequence[Ending], episodes: Sequence[Sample]) -> list[Check]:
    """Check that the critic's expected target of a state is its V."""
    if "values" not in algorithm.needs():
        return []
    sums: dict[State, list[float]] = {}
    for ending, given, row in zip(endings, episodes, algorithm.credit(episodes), strict=True):
        for state, target in zip(ending.states, row.returns[given.action_mask], strict=True):
            total = sums.setdefault(state, [0.0, 0.0])
            total[0], total[1] = total[0] + ending.chance * float(target), total[1] + ending.chance
    gap = max(abs(total / weight - _v(state, algorithm)) for state, (total, weight) in sums.items())
    expected = f"the expected targets of {len(sums)} states within {TOLERANCE:g} of V"
    return [Check(form.name, "learning", "the critic's targets", gap <= TOLERANCE, expected, f"largest gap {gap:.1e}")]


def _row(ending: Ending, number: int, algorithm: Any) -> Sample:
    """The episode as a sample, whose critic knows V; junk stands wherever the policy chose nothing."""
    token_ids, turn_ids, states = [9], [-1], [()]
    for state, token in zip(ending.states, ending.tokens, strict=True):
        observed = state[len(token_ids) - 1 :]
        token_ids += [*observed, token]
        turn_ids += [-1] * len(observed) + [_turn(state)]
        states += [()] * len(observed) + [state]  # type: ignore[list-item]
    mask = np.array(turn_ids) >= 0
    values = np.array([_v(state, algorithm) if on else JUNK for state, on in zip(states, mask, strict=True)])
    after = np.append(values[1:], CUT_VALUE if ending.cut else JUNK)
    columns: dict[str, Array] = {"values": values, "next_values": after, "sampled_logprobs": np.where(mask, -0.5, JUNK)}
    columns |= {"old_logprobs": columns["sampled_logprobs"], "ref_logprobs": columns["sampled_logprobs"]}
    return Sample(
        group=str(number),
        episode=0,
        reward=sum(ending.rewards),
        turn_rewards=ending.rewards,
        status="max_turns" if ending.cut else "done",
        numbers={"ending": float(number)},
        dtype=np.float64,
        columns={"token_ids": token_ids, "turn_ids": turn_ids, **columns},
    )


def _endings() -> Iterator[Ending]:
    """Every episode with its probability."""
    for first in product((0, 1), repeat=2):
        states, chance = [(), first[:1]], _chance((), first)
        if first == (1, 1):
            yield Ending(states, first, [_reward(first)], chance, cut=False)
            continue
        for said, second in product((2, 3), product((0, 1), repeat=2)):
            begun = (*first, said)
            rewards = [_reward(first), _reward((*begun, *second))]
            odds = chance * _said(first, said) * _chance(begun, second)
            both = [*states, begun, (*begun, second[0])]
            yield Ending(both, [*first, *second], rewards, odds, cut=second[0] != second[1])


def _policy(state: State) -> tuple[float, float]:
    """Probabilities of both symbols."""
    share = 0.2 + 0.6 * _fraction(state, 5)
    return 1.0 - share, share


def _chance(state: State, tokens: Sequence[int]) -> float:
    odds = 1.0
    for token in tokens:
        odds *= _policy(state)[token]
        state = (*state, token)
    return odds


def _said(first: State, said: int) -> float:
    """Probability that the environment says 2 or 3 after a first turn."""
    share = 0.3 + 0.4 * _fraction(first, 3)
    return share if said == 3 else 1.0 - share


def _reward(state: State) -> float:
    """Reward of the turn that ends in a state."""
    return round(2.0 * _fraction(state, 11) - 0.8, 3)


def _fraction(state: State, salt: int) -> float:
    """A number from 0 to 1 that looks like chance and is not."""
    mixed = salt
    for token in state:
        mixed = (mixed * 31 + token + 1) % 97
    return mixed / 97


def _turn(state: State) -> int:
    return 0 if len(state) < 2 else 1


def _v(state: State, algorithm: Any) -> float:
    """Value of a state in which the policy chooses."""
    return sum(share * _q(state, token, algorithm) for token, share in enumerate(_policy(state)))


def _q(state: State, token: int, algorithm: Any) -> float:
    """Value of a token: of the state behind it, or the reward of its turn and what follows, discounted."""
    after = (*state, token)
    if len(after) in (1, 4):
        return float(_gamma(algorithm) * _v(after, algorithm))
    discount = _gamma(algorithm) * algorithm.turn_discount
    if len(after) == 2:
        follows = 0.0 if after == (1, 1) else sum(_said(after, s) * _v((*after, s), algorithm) for s in (2, 3))
    else:
        cut = after[-2] != after[-1] and getattr(algorithm, "bootstrap_truncated", False)
        follows = CUT_VALUE if cut else 0.0
    return float(_reward(after) + discount * follows)


def _gamma(algorithm: Any) -> float:
    """Discount of a token; 1 where an algorithm has none."""
    return float(getattr(algorithm, "gamma", 1.0))
