"""The functions that answer `cases/tuning.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmrl.ops.pareto import front, hypervolume

Given = Mapping[str, Any]


def pareto_hv(given: Given) -> dict[str, Any]:
    return {
        "front_indices": front(given["points"]),
        "hypervolume": hypervolume(given["points"], given["reference"]),
    }
