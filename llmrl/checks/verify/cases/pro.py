"""The functions that answer `cases/pro.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from llmrl.algorithms.pro import PRO
from llmrl.batch import collate
from llmrl.checks.verify.cases.rows import row
from llmrl.ops.rankings import listwise
from llmrl.protocols import Forward

Given = Mapping[str, Any]


def pro_loss(given: Given, dtype: str) -> dict[str, Any]:
    """Answers of equal tokens, the best with so many that its sum is as given."""
    means, rewards, kind = given["mean_logp"], given["reward"], getattr(torch, dtype)
    lengths = [round(given["best_sum_logp"] / means[0]), *range(2, len(means) + 1)]
    rows = [row(length, group="g", episode=i, reward=rewards[i]) for i, length in enumerate(lengths)]

    def total(nll_coef: float) -> float:
        algorithm = PRO(nll_coef=nll_coef)
        batch = collate(algorithm.credit(rows), pack=True, dtype=kind)
        logprobs = [number for i, length in enumerate(lengths) for number in (0.0, *[means[i]] * length)]
        terms = algorithm.loss(Forward(logprobs=torch.tensor([logprobs], dtype=kind)), batch).terms
        return float((terms * batch.weights).sum())

    scores, known = torch.tensor([means], dtype=kind), torch.ones(1, len(means), dtype=torch.bool)
    stages = listwise(scores, torch.tensor([rewards], dtype=kind), known)[0, :-1]
    ranking, whole = total(0.0), total(given["sft_weight"])
    return {"stage_losses": stages.tolist(), "ranking": ranking, "sft": whole - ranking, "total": whole}
