"""The functions that answer `cases/restarts.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmrl.ops.credit import center
from llmrl.ops.snapshots import bucket_of, probabilities, quantile_edges
from llmrl.ops.warmup import phase
from llmrl.rollout.samples import to_samples
from llmrl.rollout.scheduler import capacity
from llmrl.types import Completion, Problem, Score, Trajectory, Turn

Given = Mapping[str, Any]


def warmup_phases(given: Given) -> dict[str, Any]:
    phases: list[str] = []
    rollouts, best = 0, None
    for iteration in given["iterations"]:
        phases.append(
            phase(
                rollouts=rollouts,
                min_rollouts=given["min_rollouts"],
                critic_steps=phases.count("critic"),
                max_critic_steps=given["max_critic_steps"],
                explained_variance=best,
                enough=given["ev_threshold"],
            )
        )
        rollouts += iteration["new_rollouts"]
        best = max((seen for seen in (best, iteration["explained_variance"]) if seen is not None), default=None)
    return {"phase": phases}


def snapshot_buckets(given: Given) -> dict[str, Any]:
    values, buckets = given["values"], given["n_buckets"]
    return {
        "edges": quantile_edges(values, buckets),
        "bucket": bucket_of(values, buckets),
        "prob": probabilities(values, buckets),
    }


def snapshot_group_baseline(given: Given) -> dict[str, Any]:
    prefix, fresh = center([given["prefix_group"], given["fresh_group"]], "none")
    return {"prefix_adv": prefix, "fresh_adv": fresh, "advantages": prefix + fresh}


def prefix_restart_mask(given: Given) -> dict[str, Any]:
    said = Completion(token_ids=[9] * given["n_new"], logprobs=[-1.0] * given["n_new"], finish="stop", version=0)
    turn = Turn(prompt_ids=[1] * given["n_prompt"] + [2] * given["n_prefix"], completion=said, text="")
    problem = Problem(id="prompt_id", messages=[])
    (row,) = to_samples(Trajectory(problem=problem, turns=[turn], status="done", score=Score(1.0)))
    return {"loss_mask": [int(chosen) for chosen in row.action_mask]}


def staleness_capacity(given: Given) -> dict[str, Any]:
    return {"capacity": [capacity(**row) for row in given["rows"]]}
