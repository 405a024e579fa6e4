"""Numbers of whole turns, each a run of action tokens of one sample: in batches, and on the host."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmrl.batch import Batch
from llmrl.samples import Array


class _Turns(NamedTuple):
    """Turns of a batch whose rows lie behind one another."""

    places: Tensor  # (N,) of the action tokens
    turn: Tensor  # (N,) number of the turn that each belongs to, from 0
    first: Tensor  # (turns,) place of the first token of each

    @classmethod
    def of(cls, batch: Batch) -> _Turns:
        places = batch.action_mask.flatten().nonzero().squeeze(-1)
        sample, turn = batch.sample_ids.flatten()[places], batch.turn_ids.flatten()[places]
        begins = torch.ones_like(places, dtype=torch.bool)
        begins[1:] = (sample[1:] != sample[:-1]) | (turn[1:] != turn[:-1])
        return cls(places, begins.cumsum(0) - 1, places[begins])


def at_turn_start(numbers: Tensor, batch: Batch) -> Tensor:
    """(B, T): every action token gets the number at the first token of its turn; carries the gradient."""
    turns, flat = _Turns.of(batch), numbers.flatten()
    return flat.index_put((turns.places,), flat[turns.first][turns.turn]).view_as(numbers)


def turn_sum(numbers: Tensor, batch: Batch) -> Tensor:
    """(B, T): every action token gets the sum of the numbers over its turn; carries the gradient."""
    turns, flat = _Turns.of(batch), numbers.flatten()
    sums = flat.new_zeros(len(turns.first)).index_add(0, turns.turn, flat[turns.places])
    return flat.index_put((turns.places,), sums[turns.turn]).view_as(numbers)


def turn_bounds(turn_ids: Array) -> tuple[Array, Array]:
    """Places of the first and of the last token of each turn of a sample that has one, in their order."""
    places = (turn_ids >= 0).nonzero()[0]
    changes = np.flatnonzero(np.diff(turn_ids[places]))
    first, last = np.append(-1, changes) + 1, np.append(changes, len(places) - 1)
    return (places[first], places[last]) if len(places) else (places, places)
