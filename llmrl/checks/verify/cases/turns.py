"""The functions that answer `cases/turns.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmrl.algorithms.grpo import GRPO
from llmrl.algorithms.ppo import PPO
from llmrl.checks.verify.cases.group import group_advantages
from llmrl.checks.verify.cases.rows import row
from llmrl.ops.credit import average
from llmrl.ops.turns import turn_returns
from llmrl.rollout.samples import to_samples
from llmrl.samples import Sample
from llmrl.types import Completion, Problem, Score, Trajectory, Turn

Given = Mapping[str, Any]


def mc_return(given: Given) -> dict[str, Any]:
    return {"mc_return": turn_returns(given["rewards"], given["gamma"])}


def turn_discount(given: Given) -> dict[str, Any]:
    return {"returns": turn_returns(given["rewards"], given["discount"])}


def multiturn_gae(given: Given) -> dict[str, Any]:
    """By PPO, of a sample whose observed tokens have values that must not count."""
    mask = np.array(given["action_mask"], bool)
    values = np.full(len(mask), 9.0)
    values[mask] = given["values_before_action_tokens"]
    sample = Sample(
        group="g",
        episode=0,
        reward=sum(given["turn_rewards"]),
        turn_rewards=given["turn_rewards"],
        dtype=np.float64,
        columns={
            "token_ids": [0] * len(mask),
            "turn_ids": [-1, -1, 0, 0, -1, -1, -1, 1, 1, -1],
            "sampled_logprobs": [0.0] * len(mask),
            "values": values,
        },
    )
    options: dict[str, Any] = {"kl_coef": 0.0, "whiten_advantages": False}
    algorithm = PPO(gamma=given["gamma"], lam=given["lam"], lam_critic=given["lam"], **options)
    (credited,) = algorithm.credit([sample])
    return {name: getattr(credited, name)[mask].tolist() for name in ("advantages", "returns")}


def group_of_a_turn(given: Given) -> dict[str, Any]:
    answers = group_advantages(given)
    rows = [_turns_of([reward], episode) for episode, reward in enumerate(given["rewards"])]
    by_turn = [float(one.advantages[1]) for one in GRPO(credit_level="turn", scale_rewards="none").credit(rows)]
    return {
        "mean": float(np.mean(given["rewards"])),
        "adv_population": answers["grpo_population_std"],
        "adv_sample": answers["grpo_unbiased_std"],
        "adv_dr_grpo": by_turn,
    }


def reached_turns(given: Given) -> dict[str, Any]:
    rows = [_turns_of(rewards, episode) for episode, rewards in enumerate(given["turn_rewards"])]
    algorithm = GRPO(credit_level="turn", turn_discount=given["discount"], scale_rewards="none")
    return {
        "returns": [turn_returns(rewards, given["discount"]) for rewards in given["turn_rewards"]],
        "advantages": [one.advantages[1:].tolist() for one in algorithm.credit(rows)],
    }


def split_weighting(given: Given) -> dict[str, Any]:
    """The mean over episodes, and what each sample weighs in it against an episode of one."""
    rollouts = given["rollout"]
    rows = average([row(2, group=name, episode=0) for name in rollouts], "sequence")
    shares = [float(one.weights.sum()) for one in rows]
    mean = sum(share * loss for share, loss in zip(shares, given["segment_loss"], strict=True))
    return {"rollout_mean": mean, "weights": [share * len(set(rollouts)) for share in shares]}


def tito_merge_ok(given: Given) -> dict[str, Any]:
    made = _merged(given["turns"])
    return {"segments": [_segment(sample) for sample in made], "drift": len(made) - 1}


tito_merge_split = tito_branch = tito_merge_ok


def _merged(calls: Sequence[Mapping[str, Any]]) -> list[Sample]:
    turns = [
        Turn(
            prompt_ids=call["prompt_ids"],
            completion=Completion(
                token_ids=call["completion_ids"], logprobs=call["logprobs"], finish="stop", version=0
            ),
            text="",
        )
        for call in calls
    ]
    problem = Problem(id="p", messages=[])
    return to_samples(Trajectory(problem=problem, turns=turns, status="done", score=Score(0.0)))


def _segment(sample: Sample) -> dict[str, Any]:
    begins = int(sample.action_mask.argmax())
    return {
        "prompt_ids": sample.token_ids[:begins].tolist(),
        "response_ids": sample.token_ids[begins:].tolist(),
        "loss_mask": sample.action_mask[begins:].astype(int).tolist(),
        "logprobs": [round(float(logprob), 6) for logprob in sample.sampled_logprobs[begins:]],  # kept in float32
    }


def _turns_of(rewards: Sequence[float], episode: int) -> Sample:
    """An episode with a token in each turn."""
    return row(
        len(rewards),
        group="g",
        episode=episode,
        reward=sum(rewards),
        turn_rewards=rewards,
        turn_ids=range(len(rewards)),
    )
