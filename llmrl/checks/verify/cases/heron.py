"""The functions that answer `cases/heron.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log1p
from typing import Any

from llmrl.ops.heron import borda, decisions, deviations
from llmrl.scoring.ranked_factors import Factor

Given = Mapping[str, Any]


def heron_tree(given: Given) -> dict[str, Any]:
    order = given["importance_order"]
    rows = [[row[place] for place in order] for row in given["factors"]]
    factors = [
        Factor(name=f"factor {place}", sign=int(given["sign"][place]), delta_mult=given["sigma_mult"][place])  # type: ignore[arg-type]
        for place in order
    ]
    deviation = deviations(rows)
    levels = [factor.level(std) for factor, std in zip(factors, deviation, strict=True)]
    pairs = decisions(rows, levels)
    decided = [pair for pair in pairs if pair.level is not None]
    scores = given["rm_scores"]
    losses = [log1p(exp(-pair.label * (scores[pair.first] - scores[pair.second]))) for pair in decided]
    return {
        "std": deviation,
        "thresholds": [level.threshold for level in levels],
        "pairs": [{"i": p.first, "j": p.second, "label": p.label, "level": p.level} for p in pairs],
        "decided_fraction": len(decided) / len(pairs),
        "level_counts": [sum(pair.level == number for pair in decided) for number in range(len(levels))],
        "bt_loss": sum(losses) / len(losses),
    }


def heron_borda(given: Given) -> dict[str, Any]:
    rows = given["factors"]
    levels = [Factor(name=str(n), threshold=threshold).level(0.0) for n, threshold in enumerate(given["thresholds"])]
    return {"borda": borda(len(rows), decisions(rows, levels))}
