"""Stored answers whose conservative values are known: Q of every prefix, behind which a frozen policy goes on greedily.

A prompt and all answers of three tokens of three symbols, with random rewards: a tabular decision process, solved
from its leaves. The policy is a table of logits, V a table of numbers below the largest reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrl.batch import collate
from llmrl.checks.verify.form import Check, Form
from llmrl.ops.heads import Capped
from llmrl.protocols import Forward
from llmrl.samples import Sample

PROMPTS, LENGTH, SYMBOLS = 1, 3, 3
STEPS = 400
SEEDS = (0, 1, 2)
TOLERANCE = 2e-3
"""Of a value, and of a probability."""

State = tuple[int, ...]
"""The prompt and the tokens so far."""
STATES: Sequence[State] = [
    (prompt, *tokens)
    for prompt in range(PROMPTS)
    for depth in range(LENGTH)
    for tokens in product(range(SYMBOLS), repeat=depth)
]


@dataclass(frozen=True, slots=True)
class GreedyWorld:
    """Rewards of all answers, and the frozen policy."""

    rewards: Mapping[State, float]  # of a prompt and a whole answer, at most 1
    likeliest: Mapping[State, int]  # token of the frozen policy

    @classmethod
    def of(cls, seed: int) -> GreedyWorld:
        generator = np.random.default_rng(seed)
        answers = product(range(PROMPTS), *[range(SYMBOLS)] * LENGTH)
        rewards = {answer: float(generator.uniform(-1.0, 1.0)) for answer in answers}
        return cls(rewards, {state: int(generator.integers(SYMBOLS)) for state in STATES})

    def action_values(self, gamma: float) -> dict[State, float]:
        """Exact Q of every prefix of at least one token: the reward that its greedy end gets, discounted."""
        known = dict(self.rewards)
        for state in sorted(STATES, key=len, reverse=True):
            if len(state) > 1:
                known[state] = gamma * known[*state, self.likeliest[state]]
        return known

    def rows(self) -> list[Sample]:
        """A sample of every answer; its first token names its prompt."""
        return [
            Sample(
                group=str(answer[0]),
                episode=i,
                reward=reward,
                columns={
                    "token_ids": [SYMBOLS + answer[0], *answer[1:]],
                    "turn_ids": [-1] + [0] * LENGTH,
                    "ref_peak_ids": [0, *(self.likeliest[answer[: t + 1]] for t in range(LENGTH))],
                },
                dtype=np.float64,
            )
            for i, (answer, reward) in enumerate(self.rewards.items())
        ]


class DuelingTables:
    """Logits of a policy and outputs of a capped head, for each prefix."""

    def __init__(self, world: GreedyWorld, high: float) -> None:
        self.head = Capped(high=high)
        self.logits = torch.zeros(len(STATES), SYMBOLS, dtype=torch.float64, requires_grad=True)
        self.outputs = torch.ones(len(STATES), 1, dtype=torch.float64, requires_grad=True)
        number = {state: i for i, state in enumerate(STATES)}
        self.places = torch.tensor([[0, *(number[a[: t + 1]] for t in range(LENGTH))] for a in world.rewards])
        self.tokens = torch.tensor([[0, *answer[1:]] for answer in world.rewards])
        self.others = torch.tensor(np.stack([row.ref_peak_ids for row in world.rows()])).long()

    def policy(self) -> Forward:
        """Outputs of the policy for all answers."""
        spread = torch.log_softmax(self.logits, -1)[self.places]
        chosen, other = (spread.gather(-1, ids[..., None])[..., 0] for ids in (self.tokens, self.others))
        return Forward(
            logprobs=chosen,
            peak_logprobs=spread.amax(-1),
            other_logprobs=other,
            entropy=-(spread.exp() * spread).sum(-1).detach(),
        )

    def critic(self) -> Forward:
        """Outputs of the critic for all answers."""
        return Forward(values=self.head.values(self.outputs)[self.places])

    def annotated(self, rows: Sequence[Sample]) -> list[Sample]:
        """The rows with the columns of both."""
        with torch.no_grad():
            new, values = self.policy(), self.critic().values
        columns: Mapping[str, Tensor] = {"old_logprobs": new.logprobs, "old_peak_logprobs": new.peak_logprobs}
        columns = {**columns, "old_other_logprobs": new.other_logprobs, "values": values}
        return [row.assign(**{name: of[i].numpy() for name, of in columns.items()}) for i, row in enumerate(rows)]


def greedy_values(form: Form, seeds: Sequence[int] = SEEDS) -> list[Check]:
    """Check V, Q and the policy of each seed, without the terms of ground truth, which have no exact solution."""
    algorithm: Any = replace(form.algorithm, advantage_coef=0.0, nll_coef=0.0)  # type: ignore[type-var]
    checks = []
    for seed in seeds:
        world = GreedyWorld.of(seed)
        tables = learned(algorithm, world)
        for name, gap in _gaps(algorithm, world, tables).items():
            expected, found = f"each within {TOLERANCE:g} of the solved one", f"largest gap {gap:.1e}"
            checks.append(Check(form.name, "learning", f"{name}, seed {seed}", gap <= TOLERANCE, expected, found))
    return checks


def learned(algorithm: Any, world: GreedyWorld) -> DuelingTables:
    """DuelingTables after training by the algorithm's own credit, updates and losses."""
    rows, tables = world.rows(), DuelingTables(world, algorithm.max_reward)
    learner = torch.optim.Adam([tables.logits, tables.outputs], lr=0.1, betas=(0.8, 0.95))
    for step in range(STEPS):
        learner.param_groups[0]["lr"] = 0.1 * 0.001 ** max(0.0, 2 * step / STEPS - 1)  # falls in the second half
        batch = collate(algorithm.credit(tables.annotated(rows)), pack=False, dtype=torch.float64)
        learner.zero_grad()
        for update in algorithm.updates(step):
            new = tables.policy() if update.model == "policy" else tables.critic()
            (update.loss(new, batch).terms * batch.weights).sum().backward()
        learner.step()
    return tables


def _gaps(algorithm: Any, world: GreedyWorld, tables: DuelingTables) -> dict[str, float]:
    """Largest differences from the solution: of V where the policy is frozen, else of V, Q and the policy."""
    known = world.action_values(algorithm.gamma)
    exact = torch.tensor([[known[*state, i] for i in range(SYMBOLS)] for state in STATES], dtype=torch.float64)
    values, logits = tables.head.values(tables.outputs.detach()), tables.logits.detach()
    advantages = algorithm.alpha * (logits - logits.amax(-1, keepdim=True))
    if algorithm.values_only:  # nothing else can move: V is the mean of what it is asked to be
        return {"V": float((values - _means(algorithm, world)).abs().max())}
    wanted = torch.softmax(exact / algorithm.alpha, -1)
    return {
        "V": float((values - exact.amax(-1)).abs().max()),
        "Q": float((advantages + values[:, None] - exact).abs().max()),
        "policy": float((torch.softmax(logits, -1) - wanted).abs().max()),
    }


def _means(algorithm: Any, world: GreedyWorld) -> Tensor:
    """V of each state where all logits are 0: the mean over tokens of the reward, or of the discounted V."""
    values: dict[State, float] = {}
    for state in sorted(STATES, key=len, reverse=True):
        after = [(*state, token) for token in range(SYMBOLS)]
        ahead = [world.rewards[s] if s in world.rewards else algorithm.gamma * values[s] for s in after]
        values[state] = sum(ahead) / SYMBOLS
    return torch.tensor([values[state] for state in STATES], dtype=torch.float64)
