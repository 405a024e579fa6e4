"""The functions that answer `cases/search.yaml`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from math import log
from random import Random
from typing import Any, get_args

from llmrl.ops.gae import gae
from llmrl.ops.scores import Aggregation, aggregate
from llmrl.ops.tree_search import backed_up_x1, borda_by_closure, puct, uct_x1
from llmrl.ops.uncertainty import token_uncertainty as uncertainty
from llmrl.reasoning.export import preference_rows
from llmrl.reasoning.mcts import plan_mcts
from llmrl.reasoning.tree import SearchTree, TreeNode
from llmrl.types import Completion, Problem

Given = Mapping[str, Any]


def cpl_puct(given: Given) -> dict[str, Any]:
    scores = puct(given["q"], given["n"], given["prior"], given["n_parent"], given["c_puct"])
    example = given["prior_example"]
    logprobs = [example["sum_logprob"] / example["n_tokens"]] * example["n_tokens"]
    node = TreeNode(0, None, "step", Completion(token_ids=(), logprobs=logprobs, finish="stop", version=0))
    return {"score": scores, "selected": scores.index(max(scores)), "prior_example": node.prior}


def cpl_mcts_trace(given: Given) -> dict[str, Any]:
    script, tree = given["script"], SearchTree(Problem(id="", messages=()), (), None)
    tags, ends, order = {0: "0"}, {}, []

    async def expand(node: TreeNode, iteration: int) -> list[TreeNode]:
        order.append(tags[node.id])
        for child in script[tags[node.id]]["children"]:
            outcome = child["outcome"]
            completion = Completion(token_ids=(1,), logprobs=(log(child["prior"]),), finish="stop", version=0)
            kind: Any = "step" if outcome is None else "solution"
            made = tree.add(node, completion, kind, terminal=outcome is not None, created=iteration)
            tags[made.id] = child["tag"]
            if outcome is not None:
                ends[made.id] = float(outcome) if outcome != "malformed" else -1.0
                made.outcome = "malformed" if outcome == "malformed" else "correct" if outcome > 0 else "wrong"
        return node.children

    async def evaluate(nodes: Sequence[TreeNode]) -> list[float]:
        return [ends[node.id] if node.id in ends else script[tags[node.id]]["value"] for node in nodes]

    asyncio.run(plan_mcts(tree, expand, evaluate, iterations=len(script), c_puct=given["c_puct"], draw=Random(0)))
    nodes = {tags[node.id]: {"n": node.visits, "w": node.total, "q": node.q} for node in tree.nodes}
    pairs = [{key: row[key] for key in ("q_chosen", "q_rejected", "kind", "depth")} for row in preference_rows(tree)]
    return {"expanded_order": order, "nodes": nodes, "pairs": pairs}


def x1_select_backup(given: Given) -> dict[str, Any]:
    q, n, parent = given["q_child"], given["n_child"], given["n_parent"]
    low, high = given["reward_range"]
    scores = uct_x1(q, n, parent, (low, high), given["c1"], given["c2"])
    values = [(value - low) / (high - low) for value in q]
    return {
        "value_term": values,
        "explore_term": [score - value for score, value in zip(scores, values, strict=True)],
        "score": scores,
        "selected": scores.index(max(scores)),
        "backup": {
            str(float(rate)): backed_up_x1(given["q_old"], q, n, given["gamma"], rate) for rate in given["lr_td"]
        },
    }


def tree_path_gae(given: Given) -> dict[str, Any]:
    values, rewards = given["values"], given["rewards"]
    options = {"gamma": given["gamma"], "last": values[-1]}
    mask = [True] * len(rewards)
    advantages = gae(rewards, values[:-1], mask, lam=given["lam"], **options)
    return {
        "delta": gae(rewards, values[:-1], mask, lam=0.0, **options).tolist(),
        "gae": advantages.tolist(),
        "value_target": [a + v for a, v in zip(advantages.tolist(), values, strict=False)],
    }


def beam_prm(given: Given) -> dict[str, Any]:
    return {f"by_{how}": _kept(given, how) for how in get_args(Aggregation) if how in ("min", "prod", "last")}


def _kept(given: Given, how: Aggregation) -> list[str]:
    ranked = sorted(given["candidates"], key=lambda candidate: -aggregate(candidate["step_probs"], how))
    return [candidate["id"] for candidate in ranked[: given["keep"]]]


def token_uncertainty(given: Given) -> dict[str, Any]:
    return dict(uncertainty(given["probs"]))


def borda_closure(given: Given) -> dict[str, Any]:
    closure, borda = borda_by_closure(given["wins"])
    return {"closure": closure, "borda": borda, "best": borda.index(max(borda))}
