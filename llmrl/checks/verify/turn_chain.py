"""A chain of three turns whose values are known: `good` leads on, three of them earn 1, and `bad` ends it for nothing.

Tables for two Q, two V and the policy. Values of stored episodes must be those that are solved from the end; the
policy that learns beside them must find the three goods, where V of the states is gamma to the turns that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import nan
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrl.batch import Batch, collate, minibatches
from llmrl.checks.verify.form import Check, Form
from llmrl.checks.verify.oracles.ilql import implicit
from llmrl.checks.verify.stored_answers import golden
from llmrl.protocols import Forward, Update
from llmrl.samples import Sample
from llmrl.types import Origin

LENGTH, BAD, GOOD = 3, 0, 1
SEEDS = (0, 1)
STEPS, VALUE_STEPS, EPISODES = 40, 250, 16
TOLERANCE = 2e-3
"""Of a value that is solved."""


class Chain:
    """The models as tables by the number of goods so far, and by action."""

    def __init__(self) -> None:
        self.policy = _table(LENGTH, 2)
        self.heads = {"v1": _table(LENGTH), "v2": _table(LENGTH), "q1": _table(LENGTH, 2), "q2": _table(LENGTH, 2)}
        self.heads["w"] = _table(LENGTH)
        self.copies = {name: table.detach().clone() for name, table in self.heads.items()}

    def critic(self, batch: Batch) -> Forward:
        """Outputs of the critic: V before each action, Q behind it."""
        states, actions = self._places(batch)
        own, copies = self._read(self.heads, states, actions), self._read(self.copies, states, actions)
        return Forward(heads=own, next_heads=own, target_heads=copies, next_target_heads=copies)

    def actor(self, batch: Batch) -> Forward:
        """Log-probabilities of the actions."""
        states, actions = self._places(batch)
        spread = torch.log_softmax(self.policy, -1)[states]
        return Forward(logprobs=spread.gather(-1, actions[..., None])[..., 0])

    def follow(self, share: float) -> None:
        """Move the copies."""
        for name, copy in self.copies.items():
            copy.lerp_(self.heads[name].detach(), share)

    def annotated(self, rows: Sequence[Sample], algorithm: Any) -> list[Sample]:
        """The rows with the columns that the algorithm needs, and log-probabilities by the policy of now."""
        batch = collate(rows, pack=False, dtype=torch.float64)
        with torch.no_grad():
            new = self.critic(batch)
            columns = {name: of(new).numpy() for name, of in algorithm.models()["critic"].columns.items()}
            columns["sampled_logprobs"] = self.actor(batch).logprobs.numpy()
        if "ref_logprobs" in algorithm.needs():
            columns["ref_logprobs"] = np.full(batch.token_ids.shape, np.log(0.5))
        return [
            row.assign(**{name: column[i, : len(row.token_ids)] for name, column in columns.items()})
            for i, row in enumerate(rows)
        ]

    def _places(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """State before each action, and the action; anything elsewhere. A token is `2 * state + action`."""
        return (batch.token_ids // 2).clamp(max=LENGTH - 1), batch.token_ids % 2

    def _read(self, heads: dict[str, Tensor], states: Tensor, actions: Tensor) -> dict[str, Tensor]:
        return {name: table[states, actions] if table.ndim == 2 else table[states] for name, table in heads.items()}


def turn_chain(form: Form, seeds: Sequence[int] = SEEDS) -> list[Check]:
    """Check the values of stored episodes, then the policy that learns from what it plays."""
    checks = []
    for seed in seeds:
        gap = _solved_gap(form.algorithm, seed)
        found = f"largest gap {gap:.1e}"
        expected = f"Q and V within {TOLERANCE:g} of those that are solved"
        checks.append(Check(form.name, "learning", f"values, seed {seed}", gap <= TOLERANCE, expected, found))
        success, ordered = learn(form.algorithm, seed)
        expected = f"three goods with probability {form.target:g}, and Q - V above 0 of good, below of bad"
        found = f"{success:.3f}, {'so' if ordered else 'not so'}"
        ok = success >= form.target and ordered
        checks.append(Check(form.name, "learning", f"policy, seed {seed}", ok, expected, found))
    return checks


def learn(algorithm: Any, seed: int) -> tuple[float, bool]:
    """Play, remember, learn; the final success, and the sign of all advantages."""
    chain, random, stored = Chain(), Random(seed), list[Sample]()
    actor, critic = (torch.optim.Adam(tables, lr=0.1) for tables in ([chain.policy], chain.heads.values()))
    algorithm = replace(algorithm, critic_warmup=3, critic_steps=5)
    for step in range(STEPS):
        odds = torch.softmax(chain.policy, -1)[:, GOOD].tolist()
        stored = [*stored, *(_played(f"{step}/{i}", odds, random) for i in range(EPISODES))][-8 * EPISODES :]
        rows = [_again(row, i) for i, row in enumerate(random.choices(stored, k=2 * EPISODES))]
        rows += [_proposed(f"{step}/{i}", odds, random) for i in range(3 * EPISODES)]
        credited = algorithm.credit(chain.annotated(rows, algorithm))
        for update in algorithm.updates(step):
            _fit(chain, algorithm, credited, update, critic if update.model == "critic" else actor, step)
    success = float(torch.softmax(chain.policy.detach(), -1)[:, GOOD].prod())
    apart = torch.minimum(*(chain.heads[name].detach() for name in ("q1", "q2")))
    apart = apart - torch.minimum(*(chain.heads[name].detach() for name in ("v1", "v2")))[:, None]
    return success, bool((apart[:, GOOD] > apart[:, BAD]).all() and (apart[:, BAD] < 0).all())


def _solved_gap(algorithm: Any, seed: int) -> float:
    """The largest gap of a table from the values of stored episodes and proposals, solved from the end."""
    chain, random = Chain(), Random(seed)
    algorithm = replace(algorithm, critic_steps=1, target_tau=0.3)
    stored = [replace(_played(str(i), [0.7] * LENGTH, random), origin="replay") for i in range(4 * EPISODES)]
    proposed = [_proposed(str(i), [0.4] * LENGTH, random) for i in range(4 * EPISODES)]
    credited = algorithm.credit(chain.annotated([*stored, *proposed], algorithm))
    batch = collate(credited, pack=False, dtype=torch.float64)
    learner = torch.optim.Adam(list(chain.heads.values()), lr=0.1)
    (update,) = algorithm.updates(0)
    for step in range(VALUE_STEPS):
        learner.param_groups[0]["lr"] = 0.1 * 0.01 ** (step / VALUE_STEPS)
        learner.zero_grad()
        (update.loss(chain.critic(batch), batch).terms * batch.value_weights).sum().backward()
        learner.step()
        chain.follow(algorithm.models()["critic"].target_tau)
    rows = stored if algorithm.v_target == "expectile" else proposed
    q, v = _solve(algorithm, rows)
    gaps = [float((chain.heads[f"q{j}"].detach() - torch.tensor(q)).abs().max()) for j in "12"]
    gaps += [float((chain.heads[f"v{j}"].detach() - torch.tensor(v)).abs().max()) for j in "12"]
    return max(gaps)


def _solve(algorithm: Any, rows: Sequence[Sample]) -> tuple[list[list[float]], list[float]]:
    """Q by state and action, and V by state, of the actions that the rows took."""
    q, v = [[0.0, 0.0] for _ in range(LENGTH)], [0.0] * LENGTH
    for state in reversed(range(LENGTH)):
        q[state][GOOD] = 1.0 if state == LENGTH - 1 else algorithm.gamma * v[state + 1]
        tokens = [token for row in rows for token in row.token_ids[row.action_mask].tolist() if token // 2 == state]
        taken = [q[state][token % 2] for token in tokens]
        v[state] = sum(taken) / len(taken)
        if algorithm.v_target == "expectile":
            given = Expectile(algorithm.expectile)
            v[state] = golden(lambda value: sum(implicit(given, x - value)[0] for x in taken), -1.0, 2.0)  # noqa: B023
    return q, v


class Expectile:
    """Options of `implicit`."""

    value_loss = "expectile"

    def __init__(self, tau: float) -> None:
        self.tau = tau


def _fit(
    chain: Chain, algorithm: Any, rows: Sequence[Sample], update: Update, learner: torch.optim.Optimizer, step: int
) -> None:
    rows = update.chosen(rows)
    parts = minibatches(rows, epochs=update.epochs, parts=update.minibatches, keep_groups=False, seed=step)
    for part in parts:
        batch = collate(part, pack=False, dtype=torch.float64)
        of_policy = update.model == "policy"
        loss = update.loss(chain.actor(batch) if of_policy else chain.critic(batch), batch)
        weights = batch.weights if of_policy else batch.value_weights
        learner.zero_grad()
        ((loss.terms * weights).sum() * len(rows) / len(part)).backward()  # type: ignore[no-untyped-call]
        learner.step()
        if not of_policy:
            chain.follow(algorithm.models()["critic"].target_tau)


def _played(group: str, odds: Sequence[float], random: Random) -> Sample:
    """An episode: an observed token before each action."""
    tokens, turn_ids, state, reward = list[int](), list[int](), 0, 0.0
    while state < LENGTH:
        action = int(random.random() < odds[state])
        tokens += [2 * LENGTH, 2 * state + action]
        turn_ids += [-1, len(turn_ids) // 2]
        if action == BAD:
            break
        state += 1
        reward = float(state == LENGTH)
    return _row(group, tokens, turn_ids, reward, "fresh")


def _proposed(group: str, odds: Sequence[float], random: Random) -> Sample:
    """An action in a state, drawn alike from all."""
    state = random.randrange(LENGTH)
    token = 2 * state + int(random.random() < odds[state])
    return _row(f"proposal/{group}", [2 * LENGTH, token], [-1, 0], nan, "proposal")


def _row(group: str, tokens: Sequence[int], turn_ids: Sequence[int], reward: float, origin: Origin) -> Sample:
    turns = max(turn_ids) + 1
    columns = {"token_ids": tokens, "turn_ids": turn_ids, "sampled_logprobs": [0.0] * len(tokens)}
    earned = [0.0] * (turns - 1) + [reward if reward == reward else 0.0]
    return Sample(
        group=group, episode=0, reward=reward, turn_rewards=earned, origin=origin, columns=columns, dtype=np.float64
    )


def _again(row: Sample, draw: int) -> Sample:
    return replace(row, group=f"replay/{draw}/{row.group}", origin="replay")


def _table(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64, requires_grad=True)
