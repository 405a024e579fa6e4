"""A bandit whose best log-ratios are known: each is the advantage of the turn over beta.

Episodes of two turns of two tokens each, every turn a sample of its own. Their values are such that the advantages
are beta times the log-ratios from a reference to another policy, which is so the only optimum. In the released form
good turns alone teach: a turn that succeeds ends where its mean log-ratio is 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrl.batch import Batch, collate
from llmrl.checks.verify.form import Check, Form
from llmrl.protocols import Forward
from llmrl.samples import Sample

SYMBOLS, PLACES = 3, 4
"""Tokens of a policy, and places that choose one: two turns of two."""
TOLERANCE = 1e-3
"""Of a log-ratio."""
VALUE = 0.4
"""Of every state in the released form."""
SEEDS = (0, 1)
UPDATES = 400


def log_ratios(form: Form, seeds: Sequence[int] = SEEDS) -> list[Check]:
    """Check the log-ratios of all turns that teach, for each seed, and the critic's values against frequencies."""
    checks = []
    for seed in seeds:
        gap = _gap(form.algorithm, seed)
        expected = f"log-ratios within {TOLERANCE:g} of those that are known"
        checks.append(_check(form, f"policy, seed {seed}", gap, expected))
        checks.append(_check(form, f"values, seed {seed}", _value_gap(form.algorithm, seed), "values at frequencies"))
    return checks


def _check(form: Form, name: str, gap: float, expected: str) -> Check:
    return Check(form.name, "learning", name, gap <= TOLERANCE, expected, f"largest gap {gap:.1e}")


def _gap(algorithm: Any, seed: int) -> float:
    """The largest gap of a turn's log-ratio after training."""
    generator = torch.Generator().manual_seed(seed)
    reference, aim = (_spread(torch.randn(PLACES, SYMBOLS, generator=generator)) for _ in range(2))
    paper = algorithm.form == "paper"
    if not paper:  # a log-ratio of 1 must be possible, and the reference unsure
        reference = torch.tensor([[0.2, 0.5, 0.3]]).double().log().expand(PLACES, SYMBOLS)
    rows = list(_played(algorithm, reference, aim) if paper else _told(reference))
    batch = collate(algorithm.credit(rows), pack=False, dtype=torch.float64)
    found = _trained(algorithm, reference, batch)
    if paper:
        return float((found - aim).abs().max())
    good = (found - reference)[:, 0].view(2, 2).mean(-1)
    return float((good - 1).abs().max())


def _trained(algorithm: Any, reference: Tensor, batch: Batch) -> Tensor:
    """(PLACES, SYMBOLS) log-probabilities. Plain descent in the released form, which has no slope above its aim."""
    policy, update = reference.clone().requires_grad_(), algorithm.updates(algorithm.critic_warmup)[-1]
    newton = algorithm.form == "paper"
    kind: Any = torch.optim.LBFGS if newton else torch.optim.SGD
    options = {"max_iter": 200, "tolerance_grad": 1e-10, "line_search_fn": "strong_wolfe"} if newton else {"lr": 40.0}
    learner = kind([policy], **options)

    def objective() -> float:
        learner.zero_grad()
        total = (update.loss(Forward(logprobs=_logprobs(policy, batch)), batch).terms * batch.weights).sum()
        total.backward()
        return float(total.detach())

    for _ in range(1 if newton else UPDATES):
        learner.step(objective)
    return _spread(policy.detach())


def _value_gap(algorithm: Any, seed: int) -> float:
    """The largest gap of a head's number from the share of successes, of two states."""
    generator = np.random.default_rng(seed)
    outcomes = {state: generator.random(20) < chance for state, chance in ((0, 0.2), (1, 0.7))}
    rows = [
        _row(f"{state}/{i}", 0, [state, 0, 0], float(success), 0.0, np.zeros(3))
        for state, own in outcomes.items()
        for i, success in enumerate(own)
    ]
    batch = collate(algorithm.credit(rows), pack=False, dtype=torch.float64)
    heads = {name: torch.zeros(2, dtype=torch.float64, requires_grad=True) for name in ("v1", "v2")}
    learner = torch.optim.Adam(list(heads.values()), lr=0.05)
    states = batch.token_ids[:, :1].expand_as(batch.token_ids)
    for step in range(UPDATES):
        learner.param_groups[0]["lr"] = 0.05 * 0.01 ** (step / UPDATES)
        learner.zero_grad()
        numbers = {name: table[states] for name, table in heads.items()}
        losses = {name: _half_square(number) for name, number in numbers.items()}
        new = Forward(heads=numbers, head_losses=losses)
        (algorithm.critic_loss(new, batch).terms * batch.value_weights).sum().backward()
        learner.step()
    shares = torch.tensor([outcomes[state].mean() for state in (0, 1)])
    return max(float((table.detach() - shares).abs().max()) for table in heads.values())


def _played(algorithm: Any, reference: Tensor, aim: Tensor) -> Iterator[Sample]:
    """Every episode once, with values from which its advantages follow."""
    share = 0.5 if algorithm.normalize == "mean_token" else 1.0
    for number, tokens in enumerate(product(range(SYMBOLS), repeat=PLACES)):
        apart = [float(aim[i, token] - reference[i, token]) for i, token in enumerate(tokens)]
        first, second = (algorithm.beta * share * (apart[i] + apart[i + 1]) for i in (0, 2))
        outcome = float(number % 2)
        last = outcome - second
        before = algorithm.lam * last + (1 - algorithm.lam) * outcome - first
        yield from _rows(str(number), tokens, outcome, (before, last), reference)


def _told(reference: Tensor) -> Iterator[Sample]:
    """The first symbol everywhere succeeds; nothing else does."""
    for number, tokens in enumerate(product(range(SYMBOLS), repeat=PLACES)):
        yield from _rows(str(number), tokens, float(not any(tokens)), (VALUE, VALUE), reference)


def _rows(
    group: str, tokens: Sequence[int], outcome: float, values: Sequence[float], reference: Tensor
) -> Iterator[Sample]:
    for turn, value in enumerate(values):
        places = [2 * turn, 2 * turn + 1]
        own = [tokens[i] for i in places]
        logprobs = [0.0, *(float(reference[i, token]) for i, token in zip(places, own, strict=True))]
        yield _row(group, turn, [0, *own], outcome, value, np.array(logprobs))


def _row(group: str, turn: int, tokens: Sequence[int], outcome: float, value: float, ref: Any) -> Sample:
    columns = {"token_ids": tokens, "turn_ids": [-1, turn, turn], "ref_logprobs": ref, "old_logprobs": ref}
    columns["values"] = [0.0, value, 0.0]
    return Sample(group=group, episode=0, reward=outcome, turn_rewards=[0.0, 0.0], columns=columns, dtype=np.float64)


def _logprobs(policy: Tensor, batch: Batch) -> Tensor:
    """(B, T) of each token by the table of its place: two a turn."""
    turn = batch.turn_ids.clamp(min=0)
    places = 2 * turn + (batch.position_ids - 1).clamp(min=0)
    return _spread(policy)[places, batch.token_ids]


def _half_square(numbers: Tensor) -> Any:
    return lambda targets: 0.5 * (numbers - targets).square()


def _spread(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits.double(), -1)
