"""Stored answers whose implicit values are known: a tree of prefixes, solved from its leaves by plain search.

Two prompts, 14 answers to each of three tokens of three symbols; tables for Q, V and the policy. No action outside of
the answers may count, and the policy must be the imitation that the solved values weigh.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from typing import Any

import numpy as np
import torch

from llmrl.batch import collate
from llmrl.checks.verify.form import Check, Form
from llmrl.checks.verify.oracles.ilql import implicit
from llmrl.protocols import Forward
from llmrl.samples import Sample

PROMPTS, ANSWERS, LENGTH, SYMBOLS = 2, 14, 3, 3
STEPS = 400
SEEDS = (0, 1, 2)
TOLERANCE = 2e-3
"""Of a value; of a probability ten times as much, which exponentiates it."""

State = tuple[int, ...]
"""A prompt and the tokens so far."""


@dataclass(frozen=True, slots=True)
class Solved:
    """Exact values of the states and actions that the answers hold."""

    values: Mapping[State, float]
    actions: Mapping[State, float]  # of the state and its token


def stored_answers(form: Form, seeds: Sequence[int] = SEEDS) -> list[Check]:
    """Check values and policy of each seed. The conservative term is left out, which has no fixed point of its own."""
    algorithm: Any = replace(form.algorithm, cql_weight=0.0, target_tau=0.5)  # type: ignore[type-var]
    checks = []
    for seed in seeds:
        rows = _rows(seed)
        solved = solve(rows, algorithm)
        tables = PrefixTables(rows)
        _learn_values(algorithm, rows, tables)
        v, q = tables.values.tolist(), tables.actions[0].tolist()
        values = max(abs(v[tables.states[state]] - wanted) for state, wanted in solved.values.items())
        actions = max(abs(q[tables.states[k[:-1]]][k[-1]] - wanted) for k, wanted in solved.actions.items())
        policy = _policy_gap(algorithm, rows, tables, solved)
        for name, gap, bound in (
            ("V", values, TOLERANCE),
            ("Q", actions, TOLERANCE),
            ("policy", policy, 10 * TOLERANCE),
        ):
            expected = f"each within {bound:g} of the solved one"
            found = f"largest gap {gap:.1e}"
            checks.append(Check(form.name, "learning", f"{name}, seed {seed}", gap <= bound, expected, found))
    return checks


def solve(rows: Sequence[Sample], algorithm: Any) -> Solved:
    """Exact values by going through the tree from its leaves."""
    rewards = {_state(row, LENGTH): row.reward for row in rows}
    values: dict[State, float] = {}
    actions: dict[State, float] = {}
    for depth in range(LENGTH - 1, -1, -1):
        taken: dict[State, list[float]] = defaultdict(list)
        for row in rows:
            after = _state(row, depth + 1)
            actions[after] = rewards[after] if depth == LENGTH - 1 else algorithm.gamma * values[after]
            taken[_state(row, depth)].append(actions[after])
        if algorithm.monte_carlo:
            taken = _returns(rows, depth, algorithm.gamma, actions)
        values |= {state: _minimiser(numbers, algorithm) for state, numbers in taken.items()}
    return Solved(values, actions)


def _returns(rows: Sequence[Sample], depth: int, gamma: float, actions: dict[State, float]) -> dict[State, list[float]]:
    """Actions of the states of a depth become the mean of the returns behind them; by state, one for each row."""
    came: dict[State, list[float]] = defaultdict(list)
    taken: dict[State, list[float]] = defaultdict(list)
    for row in rows:
        came[_state(row, depth + 1)].append(gamma ** (LENGTH - 1 - depth) * row.reward)
    actions |= {state: sum(found) / len(found) for state, found in came.items()}
    for row in rows:
        taken[_state(row, depth)].append(actions[_state(row, depth + 1)])
    return taken


class PrefixTables:
    """Numbers of every prefix that the answers hold: V, two Q with their Polyak copies, and logits of a policy."""

    def __init__(self, rows: Sequence[Sample]) -> None:
        prefixes = {_state(row, depth) for row in rows for depth in range(LENGTH + 1)}
        self.states = {state: i for i, state in enumerate(sorted(prefixes))}
        shape = len(self.states), SYMBOLS
        self.values = torch.zeros(shape[0], dtype=torch.float64, requires_grad=True)
        self.actions = [torch.zeros(shape, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        self.copies = [table.detach().clone() for table in self.actions]
        self.policy = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        answers = [_state(row, LENGTH) for row in rows]
        self.tokens = torch.tensor(answers).clamp(max=SYMBOLS - 1)  # (B, LENGTH + 1)
        self.after = torch.tensor([[self.states[row[: t + 1]] for t in range(LENGTH + 1)] for row in answers])
        self.places = torch.cat([self.after[:, :1], self.after[:, :-1]], 1)  # before each token; the prompt has its own

    def critic(self) -> Forward:
        """Outputs of the critic for all rows."""
        places, tokens = self.places, self.tokens
        said = [table[places, tokens] for table in self.actions]
        copies = [table[places, tokens] for table in self.copies]
        spread = [torch.log_softmax(table, -1)[places, tokens] for table in self.actions]
        return Forward(
            values=self.values[places],
            heads={"v": self.values[places], "q1": said[0], "q2": said[1]},
            next_heads={"v": self.values[self.after]},
            head_logprobs={"q1": spread[0], "q2": spread[1]},
            action_values=torch.minimum(*copies),
        )

    def follow(self, share: float) -> None:
        """Move the copies."""
        for copy, table in zip(self.copies, self.actions, strict=True):
            copy.lerp_(table.detach(), share)


def _learn_values(algorithm: Any, rows: Sequence[Sample], tables: PrefixTables) -> None:
    """Train V and Q through the algorithm's own credit, updates and loss."""
    learner = torch.optim.Adam([tables.values, *tables.actions], lr=0.05, betas=(0.8, 0.95))
    for step in range(STEPS):
        learner.param_groups[0]["lr"] = 0.05 * 0.001 ** (step / STEPS)
        if step % 10 == 0:  # the scale of a step moves no minimum, and may be old
            batch = collate(algorithm.credit(_annotated(algorithm, rows, tables)), pack=False, dtype=torch.float64)
        update = next(update for update in algorithm.updates(step) if update.model == "critic")
        learner.zero_grad()
        (update.loss(tables.critic(), batch).terms * batch.value_weights).sum().backward()
        learner.step()
        tables.follow(algorithm.models()["critic"].target_tau)


def _policy_gap(algorithm: Any, rows: Sequence[Sample], tables: PrefixTables, solved: Solved) -> float:
    """The largest gap of a probability from the imitation that the solved values weigh."""
    batch = collate(algorithm.credit(_annotated(algorithm, rows, tables)), pack=False, dtype=torch.float64)
    update = next(update for update in algorithm.updates(0) if update.model == "policy")
    places, tokens = tables.places, tables.tokens
    learner = torch.optim.LBFGS([tables.policy], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def objective() -> float:
        learner.zero_grad()
        logprobs = torch.log_softmax(tables.policy, -1)[places, tokens]
        total = (update.loss(Forward(logprobs=logprobs), batch).terms * batch.weights).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return float(total.detach())

    learner.step(objective)
    found = torch.softmax(tables.policy.detach(), -1)
    shares: dict[State, float] = defaultdict(float)
    for row in rows:
        for depth in range(LENGTH):
            state = _state(row, depth + 1)
            apart = algorithm.awac_beta * (solved.actions[state] - solved.values[state[:-1]])
            shares[state] += exp(min(apart, log(algorithm.max_weight))) if algorithm.policy == "awac" else 1.0
    sums: dict[State, float] = defaultdict(float)
    for state, share in shares.items():
        sums[state[:-1]] += share
    return max(
        abs(float(found[tables.states[state[:-1]], state[-1]]) - share / sums[state[:-1]])
        for state, share in shares.items()
    )


def _annotated(algorithm: Any, rows: Sequence[Sample], tables: PrefixTables) -> list[Sample]:
    """The rows with the columns that the algorithm needs."""
    if not algorithm.needs():
        return list(rows)
    with torch.no_grad():
        new = tables.critic()
    return [row.assign(**{name: new.get(name)[i].numpy() for name in algorithm.needs()}) for i, row in enumerate(rows)]


def _minimiser(numbers: Sequence[float], algorithm: Any) -> float:
    """V of the least implicit loss, which is convex, by golden sections."""

    def loss(value: float) -> float:
        return sum(implicit(algorithm, number - value)[0] for number in numbers)

    return golden(loss, min(numbers) - 1.0, max(numbers) + 3.0)


def golden(loss: Callable[[float], float], low: float, high: float) -> float:
    """The least point of a convex function between two numbers."""
    ratio = (5**0.5 - 1) / 2
    for _ in range(90):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return (low + high) / 2


def _rows(seed: int) -> list[Sample]:
    """Answers drawn with repetition; equal ones have one reward. A row's first token names its prompt."""
    generator = np.random.default_rng(seed)
    rewards: dict[State, float] = {}
    rows = []
    for i in range(PROMPTS * ANSWERS):
        prompt = SYMBOLS + i % PROMPTS
        tokens = generator.integers(0, SYMBOLS, LENGTH).tolist()
        reward = rewards.setdefault((prompt, *tokens), float(generator.random()))
        columns = {"token_ids": [prompt, *tokens], "turn_ids": [-1] + [0] * LENGTH}
        rows.append(Sample(group=str(i), episode=0, reward=reward, columns=columns, dtype=np.float64))
    return rows


def _state(row: Sample, depth: int) -> State:
    return tuple(row.token_ids[: depth + 1].tolist())
