"""A data set whose best imitation is known: each token's frequency, weighted as its answer is.

Three prompts, 60 answers to each of four tokens of five symbols, with rewards; the policy is a table of logits. Where
every answer has a weight, no policy has a higher weighted likelihood than the one that gives each token its share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from llmrl.batch import collate
from llmrl.checks.verify.form import Check, Form
from llmrl.checks.verify.toy import LENGTH, PROMPTS, SYMBOLS, Tables
from llmrl.samples import Sample

ANSWERS, ITERATIONS = 60, 100
SEEDS = (0, 1, 2, 3, 4)
TOLERANCE = 1e-3
"""Of a probability."""


def imitation(form: Form, weight: Callable[[float], float], seeds: Sequence[int] = SEEDS) -> list[Check]:
    """Check, for each seed, every probability of the learned policy against frequencies weighted by reward."""
    checks = []
    for seed in seeds:
        rows = _rows(seed)
        gap = float((_learned(form, rows) - _frequencies(rows, weight)).abs().max())
        expected = f"each of {PROMPTS * LENGTH * SYMBOLS} probabilities within {TOLERANCE:g} of its weighted frequency"
        checks.append(
            Check(form.name, "learning", f"seed {seed}", gap <= TOLERANCE, expected, f"largest gap {gap:.1e}")
        )
    return checks


def _rows(seed: int) -> list[Sample]:
    generator = np.random.default_rng(seed)
    return [
        Sample(
            group=f"{prompt}/{i}",
            episode=0,
            reward=float(generator.choice([0.0, 0.5, 1.0])),
            columns={
                "token_ids": [SYMBOLS + prompt, *generator.integers(0, SYMBOLS, LENGTH).tolist()],
                "turn_ids": [-1] + [0] * LENGTH,
            },
            dtype=np.float64,
        )
        for prompt in range(PROMPTS)
        for i in range(ANSWERS)
    ]


def _learned(form: Form, rows: Sequence[Sample]) -> Tensor:
    """(PROMPTS, LENGTH, SYMBOLS) probabilities after training through the algorithm's own credit and updates."""
    policy = torch.zeros(PROMPTS, LENGTH, SYMBOLS, dtype=torch.float64, requires_grad=True)
    tables = Tables(policy, torch.zeros(PROMPTS, LENGTH + 1, SYMBOLS + 1, dtype=torch.float64))
    batch = collate(form.algorithm.credit(rows), pack=False, dtype=torch.float64)
    (update,) = form.algorithm.updates(0)
    learner = torch.optim.LBFGS([policy], max_iter=ITERATIONS, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def objective() -> float:
        learner.zero_grad()
        total = (update.loss(tables.forward("policy", batch.token_ids), batch).terms * batch.weights).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return float(total.detach())

    learner.step(objective)
    return torch.softmax(policy.detach(), -1)


def _frequencies(rows: Sequence[Sample], weight: Callable[[float], float]) -> Tensor:
    """(PROMPTS, LENGTH, SYMBOLS) shares of the answers' weights."""
    counts = torch.zeros(PROMPTS, LENGTH, SYMBOLS, dtype=torch.float64)
    for row in rows:
        prompt, *tokens = row.token_ids.tolist()
        for place, token in enumerate(tokens):
            counts[prompt - SYMBOLS, place, token] += weight(row.reward)
    return counts / counts.sum(-1, keepdim=True)
