"""Is the gradient that of the objective? Central differences of the whole step, along directions of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from llmrl.checks.verify.form import Check, Form
from llmrl.checks.verify.objective import LATE, Layout, annotated, batches, finite, objective, said_of, said_of_row
from llmrl.checks.verify.random_rows import Play, play_for
from llmrl.protocols import Update
from llmrl.samples import Sample

WIDTH = 1e-5
DIRECTIONS = 2
"""Random ones of length 1 for each table: an entry that is wrong shows along every one of them."""
TOLERANCE = 1e-8
"""Of a slope: the differences themselves err by about WIDTH squared and 1e-16 / WIDTH."""


class _Constants(TorchFunctionMode):
    """Freezes the constants of a loss at their first value: `detach()`, and all that is computed without gradients.

    Without this a difference would move through a stopped gradient, and a ratio of the policy to itself would be 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: list[Tensor] = []
        self._next: int | None = None  # which constant is due; None: they are being learned

    @contextmanager
    def again(self) -> Iterator[None]:
        """A pass in which they are given back."""
        self._next = 0
        with self:
            yield

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        constant = func is Tensor.detach or not torch.is_grad_enabled()
        if not constant or not isinstance(found, Tensor) or not found.is_floating_point():
            return found
        if self._next is None:
            self._known.append(found.clone())
            return found
        self._next += 1
        return self._known[self._next - 1]


def differences(form: Form) -> list[Check]:
    """A check for each model that learns, of its gradient by the numbers of each row."""
    play = play_for(form, seed=5)
    rows = form.algorithm.credit(annotated(form.algorithm, play.rows))
    checks = []
    for update in form.algorithm.updates(LATE):
        worst, size = _worst(update, rows, play)
        expected = f"within {TOLERANCE:g} of {size} central differences, which are not all 0"
        found = f"largest gap {worst:.1e}"
        checks.append(Check(form.name, "differences", update.model, bool(worst <= TOLERANCE), expected, found))
    return checks


def _worst(update: Update, rows: Sequence[Sample], play: Play) -> tuple[float, int]:
    """The largest gap between gradient and difference; infinite where all are 0. And how many there were."""
    places = _tables(update, play)
    tables = [table for _, table in places]
    for table in tables:
        table.requires_grad_()
    constants, said, parts = _Constants(), said_of(play), batches(update, rows, Layout())
    with constants:
        value = objective(update, parts, said)
    gradients = torch.autograd.grad(value, tables, allow_unused=True)
    said = [{name: column.detach() for name, column in one.items()} for one in said]
    for table in tables:
        table.requires_grad_(False)
    worst, most, size = 0.0, 0.0, 0
    generator = torch.Generator().manual_seed(0)
    for (row, table), gradient in zip(places, gradients, strict=True):
        for _ in range(DIRECTIONS):
            drawn = torch.randn(table.shape, generator=generator, dtype=torch.float64)
            direction, ends, at = drawn / drawn.norm(), [], table.clone()
            for shift in (WIDTH, -WIDTH):
                table.copy_(at + shift * direction)
                with torch.no_grad():
                    moved = [said_of_row(play, row) if j == row else one for j, one in enumerate(said)]
                with constants.again():
                    end = objective(update, parts, moved)
                ends.append(float(end))
            table.copy_(at)
            slope = (ends[0] - ends[1]) / (2 * WIDTH)
            known = 0.0 if gradient is None else float((gradient * direction).sum())
            worst, most, size = max(worst, finite(slope - known)), max(most, abs(slope)), size + 1
    return (worst if most > 0 else float("inf")), size


def _tables(update: Update, play: Play) -> list[tuple[int, Tensor]]:
    """Tables that the updated model is made of, each with the number of its row."""
    tables = [[table] for table in (play.logits if update.model == "policy" else play.states)]
    if update.model != "policy":
        for of_heads in filter(None, (play.actions, play.heads)):
            tables = [[*own, *numbers.values()] for own, numbers in zip(tables, of_heads, strict=True)]
    return [(row, table) for row, own in enumerate(tables) for table in own]
