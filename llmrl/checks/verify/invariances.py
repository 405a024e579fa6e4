"""Invariances: changes of a step that may not change its gradient, and samples that may not give any."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import torch

from llmrl.checks.verify.form import Check, Form
from llmrl.checks.verify.objective import (
    LATE,
    Layout,
    Learned,
    Said,
    annotated,
    batches,
    distance,
    finite,
    learned,
    losses,
    said_of,
    taught,
)
from llmrl.checks.verify.random_rows import CHANNELS, Play, fill, play_for
from llmrl.checks.verify.splits import by_token, in_one, in_several, joined
from llmrl.protocols import Algorithm
from llmrl.samples import Array, Sample

TOLERANCE = 1e-10
SEEDS = (0, 1, 2)
JUNK = 7.5


@dataclass(frozen=True, slots=True)
class _Step:
    """A random play with what is learned from it as it stands."""

    algorithm: Algorithm
    play: Play
    rows: list[Sample]
    said: Said

    def learn(self, rows: Sequence[Sample] | None = None, layout: Layout = Layout()) -> dict[str, Learned]:  # noqa: B008
        return learned(self.algorithm, self.rows if rows is None else rows, self.said, layout)


def invariances(form: Form) -> list[Check]:
    """Check each property over several random steps."""
    worst: dict[str, float] = {}
    for seed in SEEDS:
        play = play_for(form, seed)
        step = _Step(form.algorithm, play, annotated(form.algorithm, play.rows), _constants(said_of(play)))
        for name, gap in _gaps(form, step):
            worst[name] = max(worst.get(name, 0.0), gap)
    checks = [
        Check(form.name, "invariances", name, gap <= TOLERANCE, f"no difference above {TOLERANCE:g}", f"{gap:.1e}")
        for name, gap in worst.items()
    ]
    return [*checks, *_value(form)]


def _gaps(form: Form, step: _Step) -> Iterator[tuple[str, float]]:
    """Each property and how far the step is from having it."""
    plain = step.learn()
    layouts = {
        "masked tokens cannot matter": Layout(extra=3, junk=JUNK),
        "packed rows learn what padded ones do": Layout(pack=True, junk=JUNK),
        "any split into micro-batches": Layout(parts=5),
        "any split of packed rows": Layout(pack=True, parts=3),
    }
    for name, layout in layouts.items():
        yield name, distance(plain, step.learn(layout=layout))
    dirty = [fill(row, -JUNK) for row in step.rows]
    yield "credit does not read masked tokens", distance(plain, step.learn(dirty))
    order = Random(0).sample(step.rows, len(step.rows))
    yield "the order of rows cannot matter", distance(plain, step.learn(order))
    judged = [
        row for row in step.rows if row.reward == row.reward or row.origin == "proposal" or row.role == "mismatched"
    ]
    yield "a reward of NaN is as good as no row", distance(plain, step.learn(judged))
    if form.only_ratios:
        yield "only ratios matter", distance(_slopes(plain), _slopes(_shifted(step)))
    yield "the first pass has ratio 1", _clipped_at_first(step)
    if form.only_credit:
        yield "no advantage, no gradient", _without_credit(step)
    if form.splits and by_token(step.algorithm):
        whole = in_one(step.rows)
        rows, said, pieces = in_several(whole, step.said)
        several = joined(learned(step.algorithm, rows, said), pieces)
        yield "an episode in several samples is one episode", distance(step.learn(whole), several)
    if form.only_credit and (_compares(step, plain) if form.baseline is None else form.baseline):
        parts = dict.fromkeys(CHANNELS, 0.7)
        equal = [
            replace(row.with_columns(token_rewards=None), reward=0.7, turn_rewards=(), correct=True, parts=parts)
            for row in _at_reference(step)
        ]
        yield "equal rewards teach nothing", _size(step.learn(equal))


def _compares(step: _Step, plain: Mapping[str, Learned]) -> bool:
    """True of credit that reads rewards, and reads nothing in what all of a group have more."""
    more = {group: (-1) ** i * (2.0 + 0.3 * i) for i, group in enumerate(dict.fromkeys(row.group for row in step.rows))}
    raised = [replace(row, reward=row.reward + more[row.group]) for row in step.rows]
    moved = [replace(row, reward=row.reward + more[row.group] * row.episode) for row in step.rows]
    return distance(plain, step.learn(raised)) <= 1e-6 < distance(plain, step.learn(moved))


def _value(form: Form) -> Iterator[Check]:
    """An algorithm is a value, and its credit a function."""
    rows = annotated(form.algorithm, play_for(form, 0).rows)
    before = pickle.dumps(rows)
    twice = [form.algorithm.credit(rows) for _ in range(2)]
    same = pickle.loads(pickle.dumps(form.algorithm)) == form.algorithm
    yield Check(
        form.name, "invariances", "equal after pickling", same, "an equal value", "equal" if same else "another"
    )
    pure = pickle.dumps(rows) == before and twice[0] == twice[1]
    yield Check(
        form.name, "invariances", "credit changes nothing", pure, "rows as they were, and the same answer twice",
        "so" if pure else "rows or answer changed",
    )  # fmt: skip


def _constants(said: Said) -> Said:
    return [{name: column.detach() for name, column in one.items()} for one in said]


def _slopes(found: Mapping[str, Learned]) -> dict[str, Learned]:
    """Gradients alone."""
    return {model: replace(one, objective=0.0) for model, one in found.items()}


def _shifted(step: _Step) -> dict[str, Learned]:
    """Gradients where every policy gives each token e times, or a third of, its probability."""
    generator = torch.Generator().manual_seed(0)
    rows, said = [], list(step.said)
    for row in step.rows:
        shift = torch.randn(len(row.token_ids), generator=generator, dtype=torch.float64)
        by = np.where(row.action_mask, shift.numpy(), 0.0)
        names = ("sampled_logprobs", "old_logprobs", "old_kept_logprobs", "ref_logprobs")
        moved = {name: row.get(name) + by for name in names if name in row.columns}
        rows.append(row.with_columns(**moved))
        numbers = dict(said[row.token_ids[0]])
        for name in ("logprobs", "kept_logprobs"):
            if name in numbers:
                numbers[name] = numbers[name] + torch.from_numpy(by)
        said[row.token_ids[0]] = numbers
    return learned(step.algorithm, rows, said)


def _now(step: _Step, row: Sample, name: str = "logprobs") -> Array:
    return np.where(row.action_mask, step.said[row.token_ids[0]][name].numpy(), 0.0)


def _first(step: _Step) -> list[Sample]:
    """The rows as they are before the first optimiser step: engine and trainer agree, and nothing has moved."""
    rows = []
    for row in step.rows:
        drawn = "logprobs" if row.support_ids is None else "kept_logprobs"
        columns = {"sampled_logprobs": drawn, "old_logprobs": "logprobs", "old_kept_logprobs": "kept_logprobs"}
        rows.append(row.with_columns(**{n: _now(step, row, of) for n, of in columns.items() if n in row.columns}))
    return rows


def _at_reference(step: _Step) -> list[Sample]:
    """The step's samples, with the policy itself as the reference."""
    return [
        row.with_columns(ref_logprobs=_now(step, row)) if "ref_logprobs" in row.columns else row for row in _first(step)
    ]


def _clipped_at_first(step: _Step) -> float:
    """The largest share of clipped tokens, or distance of an engine's weight from 1, in the first pass."""
    rows, worst = step.algorithm.credit(_first(step)), 0.0
    for update in step.algorithm.updates(LATE):
        if update.model != "policy" or not rows:
            continue
        for loss, batch in losses(update, batches(update, rows, Layout()), step.said):
            for name, numbers in loss.metrics.items():
                known = numbers[batch.action_mask & (batch.weights > 0)]
                if len(known) and name.startswith("clip_ratio/"):
                    worst = max(worst, float(known.abs().max()))
                if len(known) and name == "sampling/importance_sampling_ratio/mean":
                    worst = max(worst, float((known - 1).abs().max()))
    return worst


def _without_credit(step: _Step) -> float:
    """The policy's gradient where every advantage is set to 0 and the policy is the reference."""
    rows = [row.assign(advantages=0.0) for row in step.algorithm.credit(_at_reference(step))]
    return _size({"policy": taught(step.algorithm, rows, step.said)["policy"]}) if rows else 0.0


def _size(found: Mapping[str, Learned]) -> float:
    """The largest entry of a gradient."""
    tensors = [gradient for one in found.values() for gradient in one.gradients.values()]
    return max((finite(float(gradient.abs().max())) for gradient in tensors), default=0.0)
