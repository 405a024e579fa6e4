"""Episodes in several samples: what an algorithm learns from them is what it learns from each in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch

from llmrl.checks.verify.objective import Learned, Said
from llmrl.checks.verify.random_rows import support_sets
from llmrl.samples import Sample, support

Pieces = Sequence[Sequence[tuple[int, int]]]
"""Of each row: the first token of each sample that it became, and its length."""


def by_token(algorithm: object) -> bool:
    """True of an algorithm whose ratios and corrections are of single tokens: none is of a sample's tokens together."""
    level = getattr(algorithm, "importance_sampling_level", "token")
    mode = getattr(algorithm, "importance_sampling_correction", "none")
    drift = getattr(algorithm, "off_policy_mask_threshold", None)
    return level == "token" and mode in ("none", "token_truncate", "token_mask") and drift is None


def in_one(rows: Sequence[Sample]) -> list[Sample]:
    """The rows, where no token earns anything at which a sample will begin: it would belong to another turn there."""
    made = []
    for row in rows:
        earned, cut = row.get("token_rewards"), _cut(row)
        if earned is not None and cut:
            row = row.with_columns(token_rewards=np.where(np.arange(len(earned)) == cut, 0.0, earned))
        made.append(row)
    return made


def in_several(rows: Sequence[Sample], said: Said) -> tuple[list[Sample], Said, Pieces]:
    """Each row as one or two samples, of every second the later one first; their outputs; and which became which."""
    made: list[Sample] = []
    outputs, pieces = list(said), []
    for row in rows:
        index, length, cut = int(row.token_ids[0]), len(row.token_ids), _cut(row)
        if not cut:
            made.append(row)
            pieces.append([(index, length)])
            continue
        later = len(outputs)
        outputs.append({name: column[cut:] for name, column in said[index].items()})
        outputs[index] = {name: column[:cut] for name, column in said[index].items()}
        own = [_piece(row, 0, cut, index), _piece(row, cut, length, later)]
        made += own if index % 2 else own[::-1]
        pieces.append([(index, cut), (later, length - cut)])
    return made, outputs, pieces


def joined(found: Mapping[str, Learned], pieces: Pieces) -> dict[str, Learned]:
    """Gradients of samples as those of the rows that they were made of."""
    answer = {}
    for model, one in found.items():
        gradients = {}
        for name in {name for _, name in one.gradients}:
            for own in pieces:
                parts = [one.gradients.get((index, name), torch.zeros(n, dtype=torch.float64)) for index, n in own]
                gradients[own[0][0], name] = torch.cat(parts)
        answer[model] = replace(one, gradients=gradients)
    return answer


def _cut(row: Sample) -> int:
    """Place of the observation before the last turn, with which its own sample begins; 0 where there is none."""
    turns = row.turn_ids
    starts = [t for t, (a, b) in enumerate(pairwise(turns)) if a < 0 <= b and (turns[:t] >= 0).any()]
    return starts[-1] if starts else 0


def _piece(row: Sample, start: int, end: int, index: int) -> Sample:
    """Tokens of a row as a sample whose first token is `index`. A limit cut off the last one alone."""
    columns = {name: row.get(name)[start:end] for name in row.columns}
    columns["token_ids"] = np.concatenate([[index], columns["token_ids"][1:]])
    kept = None
    if row.support_ids is not None:
        kept, columns["support_counts"] = support([some.tolist() for some in support_sets(row)[start:end]])
    whole = end == len(row.token_ids)
    return replace(row, columns=columns, support_ids=kept, truncated=row.truncated and whole)
