"""The functions that answer `cases/verifiers.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean, stdev
from typing import Any

from llmrl.ops.credit import EPSILON, center
from llmrl.ops.gae import returns
from llmrl.rewards.clip_delta import ClipDelta, shaped
from llmrl.rewards.code import ENDINGS
from llmrl.rewards.swe_similarity import SweSimilarity, edited
from llmrl.swe.grading import repair
from llmrl.types import Problem

Given = Mapping[str, Any]


def swerl_reward(given: Given) -> dict[str, Any]:
    columns = {"files": given["context"], "oracle_new": given["oracle"]}
    problem = Problem(id="p", messages=[], info=columns)
    return {name: SweSimilarity()(problem, text).value for name, text in given["outputs"].items()}


def swerl_replace_all(given: Given) -> dict[str, Any]:
    return {"new_content": edited(given["context"], given["output"])}


def grpo_group(given: Given) -> dict[str, Any]:
    """The case divides by a deviation plus its own epsilon, llmrl by one plus EPSILON."""
    rewards = given["rewards"]
    ours = stdev(rewards) + EPSILON
    return {
        "mean": mean(rewards),
        "adv_sample": [gain * ours / (stdev(rewards) + given["eps"]) for gain in center([rewards])[0]],
        "adv_dr_grpo": center([rewards], "none")[0],
    }


def prm_clip_delta_by_step(given: Given) -> dict[str, Any]:
    scores, eta, alpha = given["step_reward"], given["eta"], given["alpha"]
    answers: dict[str, Any] = {}
    for form in ("clip", "delta"):
        answers[form] = shaped(scores, form, eta)
        paid = ClipDelta(form=form, eta=eta, alpha=alpha).rewards(scores)
        paid[-1] += given["success"]
        answers[f"return_from_step_{form}"] = returns(paid, [True] * len(paid)).tolist()
    return answers | {"delta_sum": sum(answers["delta"]), "return_clip": answers["return_from_step_clip"][0]}


def unit_test_reward(given: Given) -> dict[str, Any]:
    ours = {"all_pass": "passed", "test_failure": "failed", "runtime_error": "raised", "compile_error": "broken"}
    return {"reward": [ENDINGS[ours[outcome]] for outcome in given["outcomes"]]}  # type: ignore[index]


def swe_grading(given: Given) -> dict[str, Any]:
    answers = [repair(run, given["fail_to_pass"], given["pass_to_pass"]) for run in given["runs"]]
    return {name: [getattr(one, name) for one in answers] for name in ("resolved", "f2p_rate", "p2p_rate")}
