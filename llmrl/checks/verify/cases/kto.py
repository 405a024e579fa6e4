"""The functions that answer `cases/kto.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from llmrl.algorithms.kto import KTO
from llmrl.batch import collate
from llmrl.checks.verify.cases.rows import row
from llmrl.protocols import Forward
from llmrl.samples import Sample

Given = Mapping[str, Any]


def kto_loss(given: Given, dtype: str) -> dict[str, Any]:
    algorithm = KTO(beta=given["beta"], desirable_weight=given["weights"][0], undesirable_weight=given["weights"][1])
    good, bad = given["ratio_good"], given["ratio_bad"]
    rows = [_answer(i, ratio, "chosen") for i, ratio in enumerate(good)]
    rows += [_answer(len(good) + i, ratio, "rejected") for i, ratio in enumerate(bad)]
    mismatched = [_answer(i, ratio, "mismatched") for i, ratio in enumerate(given["ratio_mismatched"])]
    credited = algorithm.credit([*rows, *mismatched])
    batch = collate(credited, pack=True, dtype=getattr(torch, dtype))
    loss = algorithm.loss(Forward(logprobs=batch.old_logprobs), batch)
    weights = batch.advantages.abs()[batch.action_mask]
    return {
        "reference_point": credited[0].numbers["reference_point"],
        "values": (1 - loss.terms[batch.action_mask] / weights).tolist(),
        "loss": float((loss.terms * batch.weights).sum()),
    }


kto_point_below_zero = kto_loss


def _answer(number: int, ratio: float, role: Any) -> Sample:
    """An answer of a token whose log-probability is the ratio above that of the reference."""
    sample = row(1, group=str(number), reward=0.0, old_logprobs=[ratio - 1.0], ref_logprobs=[-1.0])
    return replace(sample, role=role)
