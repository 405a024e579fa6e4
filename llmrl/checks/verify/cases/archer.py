"""Functions that answer the cases of `archer.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llmrl.algorithms.archer import ArCHer, least_action_value, least_value
from llmrl.batch import Batch, collate
from llmrl.checks.verify.cases.run import Given
from llmrl.protocols import Forward
from llmrl.samples import Sample
from llmrl.train.moving_copy import MovingCopy


def archer_critic(given: Given, dtype: str) -> dict[str, Any]:
    """Each transition is a turn, and where it does not end the episode a second one follows that nobody learns from."""
    rows, places = [], range(len(given["reward"]))
    for i in places:
        last = bool(given["done"][i])
        turns = [-1, 0] if last else [-1, 0, -1, 1]
        rows.append(_row(f"data {i}", turns, given["reward"][i], "done" if last else "max_turns", "replay"))
    rows += [_row(f"proposal {i}", [-1, 0], float("nan"), "done", "proposal") for i in places]
    algorithm = ArCHer(gamma=given["gamma"])
    credited = algorithm.credit(rows)
    batch = collate(credited, pack=False, dtype=getattr(torch, dtype))
    new = _critic(given, batch)
    loss = algorithm.critic_loss(new, batch)
    found = {f"{name}_loss": _mean(loss.metrics[f"loss/{name}"], batch) for name in ("q1", "q2", "v1", "v2")}
    aims = {f"q{j}_target": algorithm.aim(new, batch, f"v{j}")[: len(places), 1].tolist() for j in "12"}
    return {**aims, **found, "total": float((loss.terms * batch.value_weights).sum())}


def archer_advantage(given: Given, dtype: str) -> dict[str, Any]:
    numbers = {name: torch.tensor([given[name]], dtype=getattr(torch, dtype)) for name in ("q1", "q2", "v1", "v2")}
    new = Forward(heads=numbers, next_heads=numbers)
    return {"advantage": (least_action_value(new) - least_value(new))[0].tolist()}


def archer_reinforce(given: Given, dtype: str) -> dict[str, Any]:
    batch, logprobs = _utterances(given, ArCHer(), dtype)
    loss = ArCHer().loss(Forward(logprobs=logprobs), batch)
    sums = (logprobs * batch.action_mask).sum(1).tolist()
    return {"seq_logp": sums, "pg_loss": float((loss.terms * batch.weights).sum())}


def archer_token_baseline(given: Given, dtype: str) -> dict[str, Any]:
    found = {}
    for over, name in (("cells", "official"), ("tokens", "masked_mean")):
        algorithm = ArCHer(token_baseline=True, baseline_over=over)  # type: ignore[arg-type]
        batch, logprobs = _utterances(given, algorithm, dtype)
        nothing = torch.zeros_like(logprobs)
        numbers = dict.fromkeys(("q1", "q2", "v1", "v2"), nothing) | {"w": _shifted(given["token_values"], dtype)}
        zero = dict.fromkeys(numbers, nothing)
        new = Forward(heads=numbers, next_heads=numbers, target_heads=zero, next_target_heads=zero)
        terms = algorithm.critic_loss(new, batch).metrics["loss/baseline"]
        found[f"value_loss_{name}"] = float((terms * batch.value_weights).sum())
        found["pg_loss"] = float((algorithm.loss(Forward(logprobs=logprobs), batch).terms * batch.weights).sum())
    return found


def archer_polyak(given: Given) -> dict[str, Any]:
    """The copy that a run moves; it is float32."""
    values = []
    for steps in given["n"]:
        mine, theirs = (nn.ParameterList([nn.Parameter(torch.tensor([at]))]) for at in (0.0, 1.0))
        place = SimpleNamespace(
            device="cpu", register_for_checkpointing=id, state=SimpleNamespace(deepspeed_plugin=None)
        )
        copy = MovingCopy(mine, place, whole=True)
        for _ in range(steps):
            copy.follow(theirs, given["tau"])
        values.append(round(float(mine[0]), 6))
    return {"value": values}


def iql_expectile(given: Given, dtype: str) -> dict[str, Any]:
    algorithm = ArCHer(v_target="expectile", expectile=given["tau"])
    rows = [_row(str(i), [-1, 0], 0.0, "done", "replay") for i in range(len(given["v"]))]
    batch = collate(algorithm.credit(rows), pack=False, dtype=getattr(torch, dtype))
    q, v = (
        torch.tensor([[0.0, number] for number in given[name]], dtype=batch.rewards.dtype) for name in ("target_q", "v")
    )
    zero = torch.zeros_like(v)
    new = Forward(
        heads={"v1": v, "v2": zero},
        next_heads={"q1": zero, "q2": zero},
        target_heads={"v1": zero, "v2": zero},
        next_target_heads={"q1": q, "q2": zero, "v1": zero, "v2": zero},
    )
    loss = _mean(algorithm.critic_loss(new, batch).metrics["loss/v1"], batch)
    return {"diff": (q - v)[:, 1].tolist(), "loss": loss}


def awr_actor(given: Given, dtype: str) -> dict[str, Any]:
    algorithm = ArCHer(actor_loss="awr", inv_temp=given["inv_temp"])
    shape = {"logp": [[number] for number in given["seq_logp"]], "mask": [[1]] * 3, "advantage": given["advantage"]}
    batch, logprobs = _utterances(shape, algorithm, dtype, "replay")
    loss = algorithm.loss(Forward(logprobs=logprobs), batch)
    return {"weight": batch.advantages[:, 1].tolist(), "loss": float((loss.terms * batch.weights).sum())}


def _row(group: str, turn_ids: Sequence[int], reward: float, status: Any, origin: Any, **columns: Any) -> Sample:
    turns = max(turn_ids) + 1
    zero = [0.0] * len(turn_ids)
    return Sample(
        group=group,
        episode=0,
        reward=reward,
        turn_rewards=[reward] + [0.0] * (turns - 1),
        status=status,
        origin=origin,
        dtype=np.float64,
        columns={"token_ids": zero, "turn_ids": turn_ids, "values": zero, "next_values": zero, **columns},
    )


def _critic(given: Given, batch: Batch) -> Forward:
    """Outputs for the transitions, at the first action of a row; of a next state at its second; of a proposal."""
    count, shape, dtype = len(given["reward"]), batch.token_ids.shape, batch.rewards.dtype
    heads: dict[str, dict[str, Tensor]] = {}
    for kind in ("heads", "next_heads", "target_heads", "next_target_heads"):
        heads[kind] = {name: torch.zeros(shape, dtype=dtype) for name in ("q1", "q2", "v1", "v2")}
    for j in "12":
        for i in range(count):
            heads["next_heads"][f"q{j}"][i, 1] = given[f"q{j}"][i]
            heads["heads"][f"v{j}"][count + i, 1] = given[f"v{j}"][i]
            heads["next_target_heads"][f"q{j}"][count + i, 1] = given[f"target_q{j}_pi"][i]
            after = given[f"target_v{j}_next"][i]
            if given["done"][i]:
                heads["next_target_heads"][f"v{j}"][i, 1] = after
            else:
                heads["target_heads"][f"v{j}"][i, 3] = after
    return Forward(**heads)


def _utterances(given: Given, algorithm: ArCHer, dtype: str, origin: str = "proposal") -> tuple[Batch, Tensor]:
    """A proposal of each row of log-probabilities, with its advantage, and these."""
    rows = []
    for i, mask in enumerate(given["mask"]):
        length = sum(mask)
        after = np.zeros(length + 1)
        after[-1] = given["advantage"][i]
        columns = {"next_values": after, "baselines": [0.0, *given.get("token_values", given["logp"])[i][:length]]}
        rows.append(_row(str(i), [-1] + [0] * length, 0.0, "done", origin, **columns))
    batch = collate(algorithm.credit(rows), pack=False, dtype=getattr(torch, dtype))
    return batch, _shifted(given["logp"], dtype)


def _shifted(numbers: Sequence[Sequence[float]], dtype: str) -> Tensor:
    """(B, T) numbers of actions behind a prompt token."""
    return nn.functional.pad(torch.tensor(numbers, dtype=getattr(torch, dtype)), (1, 0))


def _mean(numbers: Tensor, batch: Batch) -> float:
    return float((numbers * batch.value_weights).sum() / batch.value_weights.sum())
