"""A problem whose optimum is known, with tables for models: does the algorithm find it?

Three prompts, four tokens each of five symbols; an answer is right if at least three of its tokens match a secret,
which chance does in 2.7 % of cases. The policy is a table of logits, the critic a table of numbers, and the learning
rule plain gradient descent: nothing stands between the algorithm and the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrl.batch import Batch, collate, minibatches
from llmrl.checks.verify.form import Check, Form
from llmrl.checks.verify.random_rows import support_sets
from llmrl.columns import COLUMNS
from llmrl.ops.nucleus import nucleus
from llmrl.protocols import Adaptive, Algorithm, Forward, Loss, Measured, Update
from llmrl.samples import Sample, support

PROMPTS, LENGTH, SYMBOLS, SIZE = 3, 4, 5, 16
UPDATES = 150
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Tables:
    """The models. A row's first token names its prompt, as `SYMBOLS + prompt`; answers are the tokens after it."""

    policy: Tensor  # (PROMPTS, LENGTH, SYMBOLS) logits of each token
    critic: Tensor  # (PROMPTS, LENGTH + 1, SYMBOLS + 1) number of a state: tokens so far, and the last of them

    def forward(self, model: str, token_ids: Tensor, entropy_grad: bool = True, among: Tensor | None = None) -> Forward:
        """Outputs of a model for (B, LENGTH + 1) tokens; `among` (B, LENGTH, SYMBOLS) is True for kept ids."""
        prompt, answer = token_ids[:, 0] - SYMBOLS, token_ids[:, 1:]
        blank = torch.zeros(len(token_ids), 1, dtype=torch.float64)
        if model == "policy":
            logits = self.policy[prompt]
            chosen, spread = _said(logits, answer, entropy_grad)
            new = Forward(logprobs=torch.cat([blank, chosen], 1), entropy=torch.cat([blank, spread], 1))
            if among is None:
                return new
            chosen, spread = _said(logits.masked_fill(~among, -1e9), answer, entropy_grad)
            chosen, spread = torch.cat([blank, chosen], 1), torch.cat([blank, spread], 1)
            return new.with_columns(kept_logprobs=chosen, kept_entropy=spread)
        last = torch.cat([torch.full_like(token_ids[:, :1], SYMBOLS), answer], 1)
        numbers = self.critic[prompt[:, None], torch.arange(LENGTH + 1), last]  # (B, LENGTH + 1), state by state
        values, after = torch.cat([blank, numbers[:, :-1]], 1), torch.cat([blank, numbers[:, 1:]], 1)
        return Forward(values=values, next_values=after, value_loss=lambda targets: 0.5 * (values - targets).square())


def _said(logits: Tensor, answer: Tensor, entropy_grad: bool) -> tuple[Tensor, Tensor]:
    """(B, LENGTH) log-probabilities and entropies."""
    logprobs = torch.log_softmax(logits, -1)
    entropy = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs.gather(-1, answer[..., None])[..., 0], entropy if entropy_grad else entropy.detach()


def learn(form: Form, seed: int, updates: int = UPDATES, enough: float | None = None) -> list[float]:
    """The share of right answers in each step, before it was learned from; until ten steps have `enough` of them."""
    generator = torch.Generator().manual_seed(seed)
    secret = torch.randint(SYMBOLS, (PROMPTS, LENGTH), generator=generator)
    policy = torch.zeros(PROMPTS, LENGTH, SYMBOLS, dtype=torch.float64, requires_grad=True)
    critic = torch.zeros(PROMPTS, LENGTH + 1, SYMBOLS + 1, dtype=torch.float64, requires_grad=True)
    tables = Tables(policy, critic)
    reference = Tables(policy.detach().clone(), critic.detach().clone())
    learners = {name: _learner(form, name, getattr(tables, name)) for name in ("policy", "critic")}
    algorithm, success = form.algorithm, []
    for step in range(updates):
        rows = _play(tables, secret, form, step, generator)
        success.append(sum(bool(row.correct) for row in rows) / len(rows))
        if enough is not None and step >= 10 and sum(success[-10:]) / 10 >= enough:
            break
        credited = algorithm.credit(_annotated(rows, algorithm, tables, reference))
        metrics = dict(algorithm.metrics(credited)) if isinstance(algorithm, Measured) else {}
        for update in algorithm.updates(step):
            metrics |= _fit(credited, update, tables, learners[update.model], step)
        if isinstance(algorithm, Adaptive):
            algorithm = algorithm.adapted(step, metrics)
    return success


def learning(form: Form, seeds: Sequence[int] = SEEDS) -> list[Check]:
    """Check each seed: success in ten steps running."""
    checks = []
    for seed in seeds:
        success = learn(form, seed, enough=form.target)
        start, end = sum(success[:5]) / 5, sum(success[-10:]) / 10
        expected = f"success of at least {form.target:g} in ten updates running, of {UPDATES}"
        found = f"{start:.3f} at the start, {end:.3f} in the last ten of {len(success)}"
        checks.append(Check(form.name, "learning", f"seed {seed}", end >= form.target, expected, found))
    return checks


def _learner(form: Form, model: str, table: Tensor) -> torch.optim.Optimizer:
    if model in form.rates:
        return torch.optim.SGD([table], lr=form.rates[model])
    return torch.optim.Adam([table], lr=0.1)


def _play(tables: Tables, secret: Tensor, form: Form, step: int, generator: torch.Generator) -> list[Sample]:
    """SIZE answers to each prompt, sampled from the policy."""
    with torch.no_grad():
        kept = nucleus(tables.policy.view(-1, SYMBOLS), form.top_p or 1.0).view_as(tables.policy)
        odds = torch.softmax(tables.policy.masked_fill(~kept, -1e9), -1).repeat_interleave(SIZE, 0)
        answers = torch.multinomial(odds.view(-1, SYMBOLS), 1, generator=generator).view(-1, LENGTH)
        prompts = torch.arange(PROMPTS).repeat_interleave(SIZE)
        right = (answers == secret[prompts]).sum(-1) >= LENGTH - 1
        token_ids = torch.cat([prompts[:, None] + SYMBOLS, answers], 1)
        new = tables.forward("policy", token_ids, among=kept[prompts])
        logprobs = new.logprobs if form.top_p is None else new.kept_logprobs
    sets = [support([[], *(row.nonzero()[:, 0].tolist() for row in rows)]) for rows in kept]
    columns = {
        "token_ids": token_ids,
        "turn_ids": torch.tensor([-1] + [0] * LENGTH).expand(len(prompts), -1),
        "sampled_logprobs": logprobs,
    }
    if form.top_p is not None:
        columns["support_counts"] = torch.from_numpy(np.stack([counts for _, counts in sets]))[prompts]
    return [
        Sample(
            group=f"step {step}, prompt {int(prompts[i])}",
            episode=i % SIZE,
            reward=form.rewards[int(right[i])],
            turn_rewards=[0.0],
            columns={name: column[i].numpy() for name, column in columns.items()},
            dtype=np.float64,
            semantics="scaled" if form.top_p is None else "renormalised",
            support_ids=None if form.top_p is None else sets[int(prompts[i])][0],
            version=step,
            correct=bool(right[i]),
            numbers={"reference_point": 0.3},
            parts={"correct": float(right[i]), "explore": len(set(answers[i].tolist())) / LENGTH},
        )
        for i in range(len(prompts))
    ]


def _annotated(rows: Sequence[Sample], algorithm: Algorithm, tables: Tables, reference: Tables) -> list[Sample]:
    """The rows with the columns that the algorithm needs."""
    token_ids = torch.from_numpy(np.stack([row.token_ids for row in rows])).long()
    with torch.no_grad():
        now, mind = tables.forward("policy", token_ids, among=_among(rows)), tables.forward("critic", token_ids)
        known = {"policy": now, "reference": reference.forward("policy", token_ids), "critic": mind}
    columns = {need: known[COLUMNS[need].filler].get(COLUMNS[need].field).numpy() for need in algorithm.needs()}
    return [row.assign(**{name: column[i] for name, column in columns.items()}) for i, row in enumerate(rows)]


def _among(rows: Sequence[Sample]) -> Tensor | None:
    """(B, LENGTH, SYMBOLS) which tokens were kept; None where the rows do not say."""
    if rows[0].support_ids is None:
        return None
    sets = [[[symbol in some for symbol in range(SYMBOLS)] for some in support_sets(row)[1:]] for row in rows]
    return torch.tensor(sets)


def _fit(
    rows: Sequence[Sample], update: Update, tables: Tables, learner: torch.optim.Optimizer, step: int
) -> dict[str, float]:
    """Make the optimiser steps of an update; returns means of its metrics over the tokens of the last step."""
    metrics: dict[str, float] = {}
    rows = update.chosen(rows)
    if not rows:
        return metrics
    parts = minibatches(rows, epochs=update.epochs, parts=update.minibatches, keep_groups=update.keep_groups, seed=step)
    for part in parts:
        batch = collate(part, pack=False, dtype=torch.float64)
        loss = update.loss(tables.forward(update.model, batch.token_ids, update.entropy_grad, _among(part)), batch)
        weights = batch.weights if update.model == "policy" else batch.value_weights
        learner.zero_grad()
        ((loss.terms * weights).sum() * len(rows) / len(part)).backward()  # type: ignore[no-untyped-call]
        learner.step()
        metrics = _means(loss, batch)
    return metrics


def _means(loss: Loss, batch: Batch) -> dict[str, float]:
    counted = batch.weights > 0
    if not counted.any():
        return {}
    means = {name: float((numbers * batch.weights).sum() / batch.weights.sum()) for name, numbers in loss.means.items()}
    return {name: float(numbers[counted].mean()) for name, numbers in loss.metrics.items()} | means
