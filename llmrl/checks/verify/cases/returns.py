"""The functions that answer `cases/returns.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmrl.ops.returns import bucket_of, edges_of, rehearsed

Given = Mapping[str, Any]


def rcsl_buckets(given: Given) -> dict[str, Any]:
    edges = edges_of(given["returns"], given["quantiles"])
    return {"edges": edges, "bucket": [bucket_of(value, edges) for value in given["returns"]]}


def oer_select(given: Given) -> dict[str, Any]:
    return {"selected": rehearsed(given["nll_per_token"], [bool(right) for right in given["success"]], given["k"])}
