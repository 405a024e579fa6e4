"""The functions that answer `cases/controls.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from math import inf
from typing import Any

import numpy as np
import torch

from llmrl import plugins
from llmrl.algorithms.ppo import PPO
from llmrl.algorithms.t1 import T1
from llmrl.algorithms.webrl import WebRL
from llmrl.ops import credit, gae, kl
from llmrl.ops.logprobs import token_logprobs
from llmrl.ops.mismatch import BOUNDS
from llmrl.ops.stop_strings import StopStrings
from llmrl.ops.subgoals import bonus
from llmrl.samples import Sample

Given = Mapping[str, Any]


def entropy_control(given: Given) -> dict[str, Any]:
    """Coefficients, and whether the bonus is paid, behind each step."""
    algorithm, coefficients, paid = T1(**given["options"]), [], []
    for step, entropy in enumerate(given["entropy"]):
        algorithm = algorithm.adapted(step, {"entropy": entropy})
        coefficients.append(algorithm.entropy_coef)
        paid.append(algorithm.bonus > 0)
    return {"coefficients": coefficients, "paid": paid}


guard = adaptive = entropy_control


def critic_warmup(given: Given) -> dict[str, Any]:
    """Models that learn in each step, given what the critic explains in it."""
    algorithm, learning = PPO(**given["options"]), []
    for step, explained in enumerate(given["explained"]):
        learning.append([update.model for update in algorithm.updates(step)])
        algorithm = algorithm.adapted(step, {"explained_variance": explained})
    return {"learning": learning}


def divergence_control(given: Given) -> dict[str, Any]:
    algorithm, coefficients = PPO(**given["options"]), []
    for step, seen in enumerate(given["kl"]):
        algorithm = algorithm.adapted(step, {"objective/kl": seen, "objective/episodes": given["episodes"]})
        coefficients.append(algorithm.kl_coef)
    return {"coefficients": coefficients}


def entropy_gradient(given: Given, dtype: str) -> dict[str, Any]:
    logits = torch.tensor([given["logits"]], dtype=getattr(torch, dtype), requires_grad=True)
    targets = torch.tensor([given["target"]])
    found = token_logprobs(logits, lambda rows: rows, targets, given["temperature"], entropy_grad=True)
    logprobs, entropy = (torch.autograd.grad(number.sum(), logits, retain_graph=True)[0] for number in found)
    return {"logprobs": logprobs[0].tolist(), "entropy": entropy[0].tolist()}


def stop_strings(given: Given) -> dict[str, Any]:
    """A token for each byte, as some tokenizers have it."""

    def decode(ids: Any) -> str:
        return bytes(ids).decode("utf-8", errors="replace")

    found = StopStrings(decode, given["stop"])(list(given["text"].encode()))
    return {"tokens": found[0] if found else None, "string": found[1] if found else None}


def subgoals(given: Given) -> dict[str, Any]:
    rest = {name: given[name] for name in ("goals", "alpha", "gamma")}
    return {"bonus": [bonus(before, after, **rest) for before, after in given["moves"]]}


def replayed_share(given: Given) -> dict[str, Any]:
    """Turns that teach, of an equal number of fresh and stored ones."""
    algorithm = WebRL(replay_low=0.0, replay_high=1.0, replay_ratio=given["ratio"])
    columns = {"token_ids": [0, 1], "turn_ids": [-1, 0], "values": [0.0, 0.5], "ref_logprobs": [0.0, -1.0]}
    rows = [
        Sample(group=f"{origin}{i}", episode=0, reward=1.0, origin=origin, columns=columns, dtype=np.float64)
        for origin in ("fresh", "replay")
        for i in range(given[origin])
    ]
    taught = algorithm.credit(rows)
    return {origin: sum(row.origin == origin for row in taught) for origin in ("fresh", "replay")}


def columns(given: Given) -> dict[str, Any]:
    """Columns that models must fill, by options."""
    return {"needs": [sorted(plugins.build("algorithm", spec).needs()) for spec in given["algorithms"]]}


def defaults(given: Given) -> dict[str, Any]:
    """Default of every option that is a number, a choice or none, by algorithm."""
    found = {}
    for name in given["algorithms"]:
        plugin = plugins.find("algorithm", name)
        own = {entry.name: entry.default for entry in fields(plugin)}
        found[name] = {key: own[key] for key in sorted(own) if isinstance(own[key], bool | int | float | str)}
        found[name] |= {key: None for key, value in own.items() if value is None}
    return found


def constants(given: Given) -> dict[str, Any]:
    known: dict[str, Any] = {
        "credit_epsilon": credit.EPSILON,
        "no_signal": credit.NO_SIGNAL,
        "whitening_epsilon": gae.EPSILON,
        "limit": kl.LIMIT,
    }
    return known | {"bounds": {mode: [low, high if high < inf else None] for mode, (low, high) in BOUNDS.items()}}
