"""The functions that answer `cases/critics.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from llmrl.ops.heads import C51, HLGauss, TwoHot, project

Given = Mapping[str, Any]


def hl_gauss(given: Given, dtype: str) -> dict[str, Any]:
    head = _histogram(given["vmin"], given["vmax"], given["bins"], given["sigma_ratio"])
    y = torch.tensor(given["y"], dtype=getattr(torch, dtype))
    width = (given["vmax"] - given["vmin"]) / given["bins"]
    probs = head.probabilities(y)
    return {
        "edges": [given["vmin"] + i * width for i in range(given["bins"] + 1)],
        "centers": [given["vmin"] + (i + 0.5) * width for i in range(given["bins"])],
        "probs": probs.tolist(),
        "decoded": float(head.values(probs.log())),
    }


def hl_gauss_ce(given: Given, dtype: str) -> dict[str, Any]:
    logits = torch.tensor(given["logits"], dtype=getattr(torch, dtype), requires_grad=True)
    head = _histogram(0.0, 1.0, len(given["logits"]), 0.75)
    loss = head.terms(logits, torch.tensor(0.3, dtype=logits.dtype))
    (slope,) = torch.autograd.grad(loss, logits)
    return {"loss": float(loss.detach()), "grad": slope.tolist(), "value": float(head.values(logits).detach())}


def two_hot(given: Given, dtype: str) -> dict[str, Any]:
    head = TwoHot(low=given["atoms"][0], high=given["atoms"][-1], bins=len(given["atoms"]))
    probs = head.probabilities(torch.tensor(given["ys"], dtype=getattr(torch, dtype)))
    return {"probs": probs.tolist(), "decoded": head.values(probs.log()).tolist()}


def c51_projection(given: Given, dtype: str) -> dict[str, Any]:
    head = C51(low=given["atoms"][0], high=given["atoms"][-1], bins=len(given["atoms"]))
    following = torch.tensor(given["next_probs"], dtype=getattr(torch, dtype))
    atoms = head.atoms(following)
    moved = project(following, given["reward"] + given["gamma"] * atoms, atoms)
    return {
        "projected": moved.tolist(),
        "mean": float((moved * atoms).sum()),
        "mean_unclipped": given["reward"] + given["gamma"] * float((following * atoms).sum()),
    }


def hl_gauss_edge_bias(given: Given) -> dict[str, Any]:
    ys = torch.tensor(given["ys"], dtype=torch.float64)
    answers = {}
    for name, ratio in (("ratio_0_75", 0.75), ("ratio_2_0", 2.0)):
        heads = {at: _histogram(low, high, given["bins"], ratio) for at, (low, high) in given["supports"].items()}
        answers[name] = {at: head.values(head.probabilities(ys).log()).tolist() for at, head in heads.items()}
    return answers


def _histogram(low: float, high: float, bins: int, ratio: float) -> HLGauss:
    return HLGauss(low=low, high=high, bins=bins, sigma_ratio=ratio, padding=0.0)
