"""Functions that answer the cases of `webrl.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from llmrl.algorithms.webrl import WebRL
from llmrl.batch import Batch, collate
from llmrl.checks.verify.cases.run import Given
from llmrl.ops.heads import Bernoulli
from llmrl.ops.webrl import (
    binarised,
    instructive,
    mean_probability,
    raw_advantages,
    released_terms,
    strength,
    within_reach,
)
from llmrl.protocols import Forward
from llmrl.samples import Sample


def webrl_advantage(given: Given) -> dict[str, Any]:
    """Each turn is a sample of its own, as where a history is rewritten."""
    found = {}
    for name, outcome in (("A_success", given["r_T_success"]), ("A_failure", given["r_T_failure"])):
        rows = [_row("g", u, outcome, values=[0.0, value]) for u, value in enumerate(given["V"])]
        found[name] = [float(row.advantages[1]) for row in WebRL(lam=given["lam"]).credit(rows)]
    return found


def webrl_critic_ce(given: Given, dtype: str) -> dict[str, Any]:
    """Mean of both heads, which give the same."""
    found = {}
    for name, outcome in (("success", 1.0), ("failure", 0.0)):
        rows = [_row(str(i), 0, outcome) for i in range(len(given["V"]))]
        batch = collate(WebRL().credit(rows), pack=False, dtype=getattr(torch, dtype))
        values = torch.tensor([[0.5, value] for value in given["V"]], dtype=batch.returns.dtype)
        own = Bernoulli()
        logits = values.logit()[..., None]
        heads = {name: own.values(logits) for name in ("v1", "v2")}
        new = Forward(heads=heads, head_losses={name: lambda targets: own.terms(logits, targets) for name in heads})  # noqa: B023
        found[name] = float((WebRL().critic_loss(new, batch).terms * batch.value_weights).sum()) / 2
    return found


def webrl_actor_paper(given: Given, dtype: str) -> dict[str, Any]:
    algorithm = WebRL(beta=given["beta"])
    batch, ours = _turns(given, algorithm, dtype)
    total = (algorithm.loss(Forward(logprobs=ours), batch).terms * batch.weights).sum()
    (slopes,) = torch.autograd.grad(total, ours)
    residual = algorithm.beta * (ours - batch.ref_logprobs) - batch.advantages
    return {"residual": residual[:, 1].tolist(), "loss": float(total.detach()), "grad_wrt_logp": slopes[:, 1].tolist()}


def webrl_actor_paper_beta5(given: Given, dtype: str) -> dict[str, Any]:
    """The residual is 0 at the target."""
    found = webrl_actor_paper(given, dtype)
    batch, _ = _turns(given, WebRL(beta=given["beta"]), dtype)
    targets = (batch.advantages / given["beta"])[:, 1].tolist()
    refs = batch.ref_logprobs[:, 1].tolist()
    there = webrl_actor_paper({**given, "logp": [a + b for a, b in zip(refs, targets, strict=True)]}, dtype)
    at_target = there["loss"] < 1e-9
    return {"target_log_ratio": targets if at_target else None, "loss": found["loss"]}


def webrl_actor_released_code(given: Given, dtype: str) -> dict[str, Any]:
    made = []
    for row in given["rows"]:
        before, after = (np.array([min(row[name])]) for name in ("v", "v_next"))
        raw = raw_advantages(before, after, np.array([row["reward"]]), np.array([row["mc_return"]]))
        advantage = binarised(raw)
        ours, ref = (torch.tensor(row[name], dtype=getattr(torch, dtype)) for name in ("logp", "ref_logp"))
        length = max(1, len(ours) * int(advantage[0] > 0))  # the code divides by the tokens of good turns
        apart = (ours - ref).sum() / length
        parts = apart, torch.tensor(float(advantage[0]), dtype=ours.dtype), ref.mean().exp()
        numbers = {
            "ref_prob": parts[2],
            "beta": strength(*parts),
            "log_ratio": parts[0],
            "loss": released_terms(*parts),
        }
        made.append({"raw_adv": float(raw[0]), "adv": float(advantage[0]), **{n: float(x) for n, x in numbers.items()}})
    return {"rows": made}


def webrl_replay_filter(given: Given) -> dict[str, Any]:
    found = {}
    for name, logprobs in given["logp"].items():
        mean = mean_probability(logprobs)
        keep = instructive(mean, given["low"], given["high"])
        found[name] = {"mean_prob": mean, "perplexity": 1 / mean, "keep": keep}
    return found


def webrl_task_filter(given: Given) -> dict[str, Any]:
    return {"keep": [within_reach(values, given["low"], given["high"]) for values in given["v"]]}


def _row(group: str, turn: int, outcome: float, length: int = 1, **columns: Any) -> Sample:
    """A sample of a prompt token and a turn."""
    zero = [0.0] * (1 + length)
    filled = {"values": zero, "ref_logprobs": zero, "old_logprobs": zero} | columns
    tokens = {"token_ids": [0] * (1 + length), "turn_ids": [-1] + [turn] * length}
    return Sample(group=group, episode=0, reward=outcome, dtype=np.float64, columns=tokens | filled)


def _turns(given: Given, algorithm: WebRL, dtype: str) -> tuple[Batch, torch.Tensor]:
    """Turns of one token each with these advantages, and log-probabilities of now."""
    refs: Sequence[float] = given["ref_logp"]
    rows = [_row(str(i), 0, 0.0, ref_logprobs=[0.0, ref]) for i, ref in enumerate(refs)]
    rows = [row.assign(advantages=own) for row, own in zip(algorithm.credit(rows), given["advantage"], strict=True)]
    batch = collate(rows, pack=False, dtype=getattr(torch, dtype))
    ours = torch.tensor([[0.0, number] for number in given["logp"]], dtype=getattr(torch, dtype), requires_grad=True)
    return batch, ours
