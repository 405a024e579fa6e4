"""A step of random rows, with everything in them that once broke a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from random import Random

import numpy as np
import torch
from torch import Tensor

from llmrl.checks.verify.form import Form
from llmrl.columns import filled_by
from llmrl.protocols import Algorithm, Modelled
from llmrl.samples import Array, Sample, support
from llmrl.types import Origin, Role

SYMBOLS = 5
WIDE = 7.0
"""Largest V of a state beside actions whose Q is about 0 to 1: the surrogate of chi-square is known to go wrong where
Q - V is below -4."""
LONG = 11
"""Actions of a long turn: sums over more of them than doubling reaches in three passes."""
FAR, OFTEN = 1.5, 0.15
"""Width of log-ratios that are beyond clips and caps, and their share."""
MODELS = tuple(filled_by("policy", "reference", "critic"))
"""Columns that models fill."""
CHANNELS = ("correct", "explore")
"""What rewards are made of."""


@dataclass(frozen=True, slots=True)
class Play:
    """Rows as a source gives them, and what the networks in training make of each; row i begins with token i."""

    rows: list[Sample]
    logits: list[Tensor]  # (T, SYMBOLS) float64, of the distribution that token t is chosen from
    states: list[Tensor]  # (T + 1,) float64, the critic's number of the state before token t, and after the last
    actions: Sequence[Mapping[str, Tensor]] = ()  # by head of the vocabulary: (T, SYMBOLS) float64 of tokens in a state
    copies: Sequence[Mapping[str, Tensor]] = ()  # the same of the Polyak copies, constants
    heads: Sequence[Mapping[str, Tensor]] = ()  # by head of states, where there are several: (T + 1,) as `states`
    lagging: Sequence[Mapping[str, Tensor]] = ()  # the same of the Polyak copies, constants


def play_for(form: Form, seed: int, groups: int = 4, size: int = 4) -> Play:
    """A random play of the kind that a form learns from."""
    if form.pairs:
        play = random_play(seed, 2 * groups, 2, kept=form.top_p is not None)
        return replace(play, rows=[_in_pair(row, seed) for row in play.rows])
    play = random_play(seed, groups, size, dense=form.dense, kept=form.top_p is not None)
    play = with_ground_truth(play) if form.truth else play
    if form.mismatched:
        play = replace(play, rows=[replace(r, role="mismatched") if i % 4 == 1 else r for i, r in enumerate(play.rows)])
    if not form.verdicts:
        play = replace(play, rows=[replace(row, correct=None) for row in play.rows])
    if form.turns:
        play = replace(play, rows=[_with_turn_rewards(row, seed) for row in play.rows])
    if form.origins:
        play = replace(play, rows=[_with_origin(row, seed) for row in play.rows])
    of_tokens, of_states = heads_of(form.algorithm)
    if len(of_states) > 1:
        play = _with_heads(play, of_states, seed)
    return _with_actions(play, of_tokens, seed) if of_tokens else play


def heads_of(algorithm: Algorithm) -> tuple[list[str], list[str]]:
    """Names of the heads that give a number of every token, and of those that give one of each state."""
    specs = algorithm.models().values() if isinstance(algorithm, Modelled) else ()
    kinds = {name: head.get("name") for spec in specs for name, head in spec.heads.items()}
    of_tokens = [name for name, kind in kinds.items() if kind == "vocabulary"]
    return of_tokens, [name for name in kinds if name not in of_tokens]


def _with_origin(row: Sample, seed: int) -> Sample:
    """A third of the rows are of an earlier step; a third are the last turn alone, as no environment has answered."""
    random = Random(f"{seed}/{row.group}/{row.episode}/origin")
    origin: Origin = random.choice(["fresh", "replay", "proposal"])
    if origin != "proposal":
        return replace(row, origin=origin)
    last = row.turn_ids == row.turn_ids.max()
    row = replace(row, origin=origin, reward=nan, turn_rewards=[0.0], status="done", correct=None, parts={})
    return row.with_columns(turn_ids=np.where(last, 0, -1))


def _with_heads(play: Play, names: Sequence[str], seed: int) -> Play:
    """The play with numbers of states by several heads, and copies that lag behind them."""
    generator = torch.Generator().manual_seed(seed)
    heads, lagging, rows = [], [], []
    for row, states in zip(play.rows, play.states, strict=True):
        draws = torch.randn(3, len(names), len(states), generator=generator, dtype=torch.float64)
        heads.append({name: states + draws[0, i] for i, name in enumerate(names)})
        lagging.append({name: states + draws[1, i] for i, name in enumerate(names)})
        rows.append(fill(row.with_columns(baselines=draws[2, 0, :-1].numpy()), 0.0))
    return replace(play, rows=rows, heads=heads, lagging=lagging)


def _with_actions(play: Play, heads: Sequence[str], seed: int) -> Play:
    """The play with numbers of tokens, and copies that lag behind them, as `action_values` did before the step."""
    generator = torch.Generator().manual_seed(seed)
    actions, copies, rows = [], [], []
    for row in play.rows:
        shape = len(row.token_ids), SYMBOLS
        own = {name: torch.rand(shape, generator=generator, dtype=torch.float64) for name in heads}
        lagging = {
            name: own[name] + 0.2 * torch.randn(shape, generator=generator, dtype=torch.float64) for name in heads
        }
        tokens = torch.tensor([0, *row.token_ids[1:].tolist()])
        least = torch.stack([numbers.gather(-1, tokens[:, None])[:, 0] for numbers in lagging.values()]).amin(0)
        actions.append(own)
        copies.append(lagging)
        rows.append(row.assign(action_values=least.numpy()))
    states = [WIDE * numbers for numbers in play.states]  # gaps of Q and V on both sides of every bend of a loss
    return replace(play, rows=rows, states=states, actions=actions, copies=copies)


def _with_turn_rewards(row: Sample, seed: int) -> Sample:
    """The row with rewards of its turns besides its score."""
    random = Random(f"{seed}/{row.group}/{row.episode}")
    rewards = [random.choice([-1.0, 0.0, 0.5]) for _ in row.turn_rewards]
    return replace(row, reward=row.reward + sum(rewards), turn_rewards=rewards)


def _in_pair(row: Sample, seed: int) -> Sample:
    """The first of a group is chosen, the second rejected."""
    margin = Random(f"{seed}/{row.group}").random()
    role: Role = "rejected" if row.episode else "chosen"
    return replace(row, reward=1.0 - row.episode, role=role, numbers={"margin": margin, "reference_point": 0.3})


def random_play(seed: int, groups: int = 4, size: int = 4, *, dense: bool = False, kept: bool = False) -> Play:
    """Ragged rows of several turns with observations between and behind them, after an update or two of the policy.

    Rows of a group lie apart. One group has rewards that differ by less than a signal, another by little; groups of
    more than two differ in size. Some answers were cut off, some rewards are NaN; if `dense`, some tokens earn, too; if
    `kept`, rows say among which tokens each was drawn.
    """
    random = Random(seed)
    places = [(group, episode) for group in range(groups) for episode in range(_size(group, size))]
    random.shuffle(places)
    rows: list[Sample] = []
    logits: list[Tensor] = []
    states: list[Tensor] = []
    for group, episode in places:
        row = _row(random, f"g{group}", episode, len(rows), _reward(random, group, episode))
        if dense and group > 1 and random.random() < 0.5:
            earned = [0.0, *(random.choice([0.0, 0.1, -0.2]) for _ in row.token_ids[1:])]
            row = row.with_columns(token_rewards=earned)
        generator = torch.Generator().manual_seed(seed * 1000 + len(rows))
        here = torch.randn(len(row.token_ids), SYMBOLS, generator=generator, dtype=torch.float64)
        mind = torch.rand(len(row.token_ids) + 1, generator=generator, dtype=torch.float64)
        if kept:
            ids, counts = support(_kept(random, row))
            row = replace(row, support_ids=ids, semantics="renormalised").with_columns(support_counts=counts)
        rows.append(_annotated(row, random, here, mind))
        logits.append(here)
        states.append(mind)
    return Play(rows, logits, states)


def _size(group: int, size: int) -> int:
    """Episodes of a group: `size` on average, and never fewer than two."""
    return size if size < 3 else max(2, size + (0, 1, -1)[group % 3])


def _reward(random: Random, group: int, episode: int) -> float:
    """Group 0 has no signal: its rewards are equal but for rounding. Group 2 has one of a thousandth."""
    if group == 0:
        return 1.0 - 1e-8 * episode
    if episode > 1 and random.random() < 0.15:
        return nan
    of_group = (0.6, 0.601) if group == 2 else (0.0, 1.0)
    if episode < 2:  # every other group has a signal
        return of_group[episode]
    return random.choice([*of_group, 0.3])


def _row(random: Random, group: str, episode: int, index: int, reward: float) -> Sample:
    """A prompt, then one to three turns of the policy with what the environment said between them, or one long turn."""
    turn_ids, turns = [-1] * random.randint(1, 2), random.randint(1, 3)
    for turn in range(turns):
        spoken = random.randint(1, 3) if turns > 1 else random.choice([1, 2, 3, LONG])
        heard = random.randint(1, 2) if turn < turns - 1 or random.random() < 0.2 else 0
        turn_ids += [turn] * spoken + [-1] * heard
    status = random.choices(("done", "max_tokens", "max_turns"), (7, 2, 1))[0]
    return Sample(
        group=group,
        episode=episode,
        reward=reward,
        turn_rewards=[0.0] * turns,
        columns={
            "token_ids": [index, *(random.randrange(SYMBOLS) for _ in turn_ids[1:])],
            "turn_ids": turn_ids,
            "sampled_logprobs": np.zeros(len(turn_ids)),
        },
        dtype=np.float64,
        status=status,  # type: ignore[arg-type]
        truncated=status == "max_tokens",
        correct=None if reward != reward else reward > 0.5,
        numbers={"value": random.random()},
        parts={} if reward != reward else dict(zip(CHANNELS, (reward, 0.37 * index % 1.0), strict=True)),
    )


def _kept(random: Random, row: Sample) -> list[list[int]]:
    """Ids kept at each action: its token and some others."""
    sets = [[token, *random.sample(range(SYMBOLS), random.randint(0, 3))] for token in row.token_ids.tolist()]
    return [sorted(set(some)) if on else [] for some, on in zip(sets, row.action_mask, strict=True)]


def over_kept(logits: Tensor, row: Sample) -> Tensor:
    """(T, SYMBOLS) logits, -inf for what was not kept of an action's distribution."""
    allowed = torch.ones_like(logits, dtype=torch.bool)
    for t, some in enumerate(support_sets(row)):
        if len(some):
            allowed[t] = torch.tensor([symbol in some for symbol in range(SYMBOLS)])
    return logits.masked_fill(~allowed, float("-inf"))


def with_ground_truth(play: Play) -> Play:
    """The play with every third answer marked as ground truth."""
    marked = [row.with_numbers(is_ground_truth=float(i % 3 == 0)) for i, row in enumerate(play.rows)]
    return replace(play, rows=marked)


def _annotated(row: Sample, random: Random, logits: Tensor, mind: Tensor) -> Sample:
    """The columns of the models before the step: near what the networks say now, not equal to it; a few are far."""

    def near(numbers: list[float], width: float) -> list[float]:
        widths = random.choices((width, FAR), (1 - OFTEN, OFTEN), k=len(numbers))
        return [number + random.gauss(0.0, wide) for number, wide in zip(numbers, widths, strict=True)]

    def chosen(numbers: Tensor) -> list[float]:
        logprobs = torch.log_softmax(numbers, -1)
        return [0.0 if i == 0 else float(logprobs[i, token]) for i, token in enumerate(row.token_ids.tolist())]

    whole = chosen(logits)
    old, before = near(whole, 0.3), near(mind.tolist(), 0.3)
    among = near(chosen(over_kept(logits, row)), 0.3) if row.support_ids is not None else None
    sampled = near(among or old, 0.4)
    row = row.with_columns(sampled_logprobs=sampled, old_logprobs=old, old_kept_logprobs=among)
    row = row.with_columns(ref_logprobs=near(whole, 0.4), values=before[:-1], next_values=before[1:])
    row = row.with_columns(last_values=before[1:])
    flatter = torch.log_softmax(0.7 * logits, -1)
    row = row.with_columns(old_entropy=(-(flatter.exp() * flatter).sum(-1)).numpy())
    likeliest = (logits + logits.roll(1, -1)).argmax(-1)  # by the reference
    row = row.with_columns(
        ref_peak_ids=likeliest.numpy(),
        old_peak_logprobs=flatter.amax(-1).numpy(),
        old_other_logprobs=flatter.gather(-1, likeliest[:, None])[:, 0].numpy(),
    )
    return fill(row, 0.0)


def fill(row: Sample, junk: float) -> Sample:
    """The row with multiples of `junk`, another in each column, in every cell that no action token owns."""
    columns = {
        name: np.where(row.action_mask, row.get(name), junk * i)
        for i, name in enumerate(("sampled_logprobs", *MODELS), start=1)
        if name in row.columns
    }
    return row.with_columns(**columns)


def support_sets(row: Sample) -> list[Array]:
    """The ids among which each token was sampled; none where the row does not say."""
    if row.support_ids is None:
        return []
    return np.split(row.support_ids, np.cumsum(row.support_counts)[:-1])
