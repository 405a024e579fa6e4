"""A step's objective and its gradient in float64, by way of the algorithm's own credit, updates and losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from llmrl.batch import Batch, collate, inseparable, split
from llmrl.checks.verify.random_rows import MODELS, Play, over_kept
from llmrl.columns import COLUMNS
from llmrl.ops.logprobs import token_logprobs
from llmrl.protocols import Algorithm, Forward, Loss, Update
from llmrl.samples import Sample

LATE = 100_000
"""The step of the loop whose updates are looked at: every warm-up is over."""

Said = Sequence[Mapping[str, Tensor]]
"""Outputs of the networks for each row of a play: (T,) per column."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Ways of making batches of rows, none of which may change the gradient."""

    pack: bool = False
    parts: int = 1  # micro-batches
    extra: int = 0  # columns of padding behind the longest row
    junk: float = 0.0  # what stands in every cell that no action token owns, but for the weights


@dataclass(frozen=True, slots=True)
class Learned:
    """A model's gradients of a step: (T,) by row and column, of the rows that credit kept."""

    objective: float
    gradients: Mapping[tuple[int, str], Tensor]


def said_of(play: Play) -> list[dict[str, Tensor]]:
    """The columns of a forward pass for each row; the gradient reaches the play's logits and states."""
    return [said_of_row(play, i) for i in range(len(play.rows))]


def said_of_row(play: Play, i: int) -> dict[str, Tensor]:
    """The network's outputs for a single row."""
    tokens, states = torch.tensor([0, *play.rows[i].token_ids[1:].tolist()]), play.states[i]
    logprobs, entropy = token_logprobs(play.logits[i], lambda hidden: hidden, tokens, entropy_grad=True)
    said = {"logprobs": logprobs, "entropy": entropy, "values": states[:-1], "next_values": states[1:]}
    said["peak_logprobs"] = torch.log_softmax(play.logits[i], -1).amax(-1)
    if play.rows[i].support_ids is not None:
        inside = over_kept(play.logits[i], play.rows[i])
        among, spread = token_logprobs(inside, lambda hidden: hidden, tokens, entropy_grad=True)
        said |= {"kept_logprobs": among, "kept_entropy": spread}
    if play.heads:
        said |= _said_by_states(play, i)
    return said | (_said_by_heads(play, i, tokens) if play.actions else {})


def _said_by_states(play: Play, i: int) -> dict[str, Tensor]:
    """Outputs of heads of states by name for a row."""
    said: dict[str, Tensor] = {}
    for kind, heads in (("heads", play.heads[i]), ("target_heads", play.lagging[i])):
        said |= {f"{kind}/{name}": states[:-1] for name, states in heads.items()}
        said |= {f"next_{kind}/{name}": states[1:] for name, states in heads.items()}
    return said


def _said_by_heads(play: Play, i: int, tokens: Tensor) -> dict[str, Tensor]:
    """Outputs of heads by name for a row: `heads/q1` is an entry of `Forward.heads`."""
    states, chosen = play.states[i], tokens[:, None]
    said = {"heads/v": states[:-1], "next_heads/v": states[1:]}
    for name, numbers in play.actions[i].items():
        said[f"heads/{name}"] = numbers.gather(-1, chosen)[:, 0]
        said[f"head_logprobs/{name}"] = torch.log_softmax(numbers, -1).gather(-1, chosen)[:, 0]
    copies = {name: numbers.gather(-1, chosen)[:, 0] for name, numbers in play.copies[i].items()}
    said |= {f"target_heads/{name}": numbers for name, numbers in copies.items()}
    return said | {"action_values": torch.stack(list(copies.values())).amin(0)}


def annotated(algorithm: Algorithm, rows: Sequence[Sample]) -> list[Sample]:
    """The rows with the columns that the algorithm asks for, and no other."""
    left_out = {name: None for name in MODELS if name not in algorithm.needs()}
    return [row.with_columns(**left_out) for row in rows]


def batches(update: Update, rows: Sequence[Sample], layout: Layout) -> list[tuple[list[Sample], Batch]]:
    """The micro-batches of a layout, with the rows in each."""
    rows = update.chosen(rows)
    together, made = inseparable(rows, update.keep_groups), []
    for part in split(together, min(layout.parts, len(together))):
        members = [rows[i] for unit in part for i in unit]
        batch = _wider(collate(members, layout.pack, dtype=torch.float64), 0 if layout.pack else layout.extra)
        made.append((members, _with_junk(batch, layout.junk)))
    return made


def losses(
    update: Update, parts: Sequence[tuple[list[Sample], Batch]], said: Said, junk: float = 0.0
) -> Iterator[tuple[Loss, Batch]]:
    """The loss of each micro-batch with the batch that it is of."""
    for members, batch in parts:
        new = _forward(members, said, batch, junk)
        if not update.entropy_grad:  # as in training
            constant = {name: new.get(name).detach() for name in ("entropy", "kept_entropy") if name in new.columns}
            new = new.with_columns(**constant)
        yield update.loss(new, batch), batch


def objective(update: Update, parts: Sequence[tuple[list[Sample], Batch]], said: Said, junk: float = 0.0) -> Tensor:
    """The objective that the model minimises over the step: the weighted sum of its terms."""
    total = torch.zeros((), dtype=torch.float64)
    for loss, batch in losses(update, parts, said, junk):
        weights = batch.weights if update.model == "policy" else batch.value_weights
        total = total + (loss.terms * weights).sum()
    return total


def learned(
    algorithm: Algorithm,
    rows: Sequence[Sample],
    said: Said,
    layout: Layout = Layout(),
    step: int = LATE,
) -> dict[str, Learned]:
    """Gradients of each model, from rows that have the columns which the algorithm needs."""
    return taught(algorithm, algorithm.credit(rows), said, layout, step)


def taught(
    algorithm: Algorithm,
    credited: Sequence[Sample],
    said: Said,
    layout: Layout = Layout(),
    step: int = LATE,
) -> dict[str, Learned]:
    """Gradients of each model, from rows that have their credit."""
    leaves = [{name: column.detach().clone().requires_grad_() for name, column in one.items()} for one in said]
    by_model: dict[str, Learned] = {}
    for update in algorithm.updates(step):
        if not update.chosen(credited):
            by_model[update.model] = Learned(0.0, {})
            continue
        value = objective(update, batches(update, credited, layout), leaves, layout.junk)
        keys = [(int(row.token_ids[0]), name) for row in credited for name in leaves[0]]
        gradients = torch.autograd.grad(value, [leaves[i][name] for i, name in keys], allow_unused=True)
        known = {key: gradient for key, gradient in zip(keys, gradients, strict=True) if gradient is not None}
        by_model[update.model] = Learned(float(value.detach()), known)
    return by_model


def distance(one: Mapping[str, Learned], other: Mapping[str, Learned]) -> float:
    """The largest difference of an objective or of an entry of a gradient; infinite where the models differ."""
    if set(one) != set(other):
        return float("inf")
    worst = 0.0
    for model, left in one.items():
        right = other[model]
        worst = max(worst, finite(left.objective - right.objective))
        for key in set(left.gradients) | set(right.gradients):
            here, there = left.gradients.get(key), right.gradients.get(key)
            gap = (0.0 if here is None else here) - (0.0 if there is None else there)
            worst = max(worst, finite(float(torch.as_tensor(gap).abs().max())))
    return worst


def finite(number: float) -> float:
    """Its distance from 0; infinite for NaN, which no comparison would find the larger."""
    return abs(number) if number == number else float("inf")


def _forward(rows: Sequence[Sample], said: Said, batch: Batch, junk: float) -> Forward:
    def column(name: str) -> Tensor:
        grid = torch.full(batch.token_ids.shape, junk, dtype=torch.float64)
        for i, row in enumerate(rows):
            grid = grid.masked_scatter(batch.sample_ids == i, said[row.token_ids[0]][name])
        return torch.where(batch.action_mask, grid, junk)

    values, kept = column("values"), "support_counts" in batch.columns
    by_head: dict[str, dict[str, Tensor]] = {}
    for name in said[rows[0].token_ids[0]]:
        kind, _, head = name.partition("/")
        if head:
            by_head.setdefault(kind, {})[head] = column(name)
    return Forward(
        action_values=column("action_values") if "action_values" in said[rows[0].token_ids[0]] else None,
        kept_logprobs=column("kept_logprobs") if kept else None,
        kept_entropy=column("kept_entropy") if kept else None,
        logprobs=column("logprobs"),
        entropy=column("entropy"),
        peak_logprobs=column("peak_logprobs"),
        values=values,
        next_values=column("next_values"),
        value_loss=_half_square(values),
        head_losses={name: _half_square(numbers) for name, numbers in by_head.get("heads", {}).items()} or None,
        **by_head,
    )


def _half_square(numbers: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda targets: 0.5 * (numbers - targets).square()


def _wider(batch: Batch, extra: int) -> Batch:
    """The batch with columns of padding behind it."""
    if not extra:
        return batch

    def pad(column: Tensor, padding: int) -> Tensor:
        return torch.nn.functional.pad(column, (0, extra), value=padding)

    return replace(
        batch,
        columns={name: pad(column, COLUMNS[name].padding) for name, column in batch.columns.items()},
        position_ids=pad(batch.position_ids, 0),
        sample_ids=pad(batch.sample_ids, -1),
    )


def _with_junk(batch: Batch, junk: float) -> Batch:
    """The batch with another number in the unowned cells of every column, so that no two of them cancel."""
    filled = {
        name: torch.where(batch.action_mask, batch.get(name), junk / i)
        for i, name in enumerate(
            ("sampled_logprobs", *MODELS, "advantages", "returns", "rewards", "discounts", "q_weights", "v_weights"),
            start=2,
        )
        if name in batch.columns
    }
    return batch.with_columns(**filled)
