"""The functions that answer `cases/rewards.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmrl.aio import wait
from llmrl.ops.gae import returns
from llmrl.rewards.clip_delta import ClipDelta, shaped
from llmrl.rewards.cosine_length import CosineLength
from llmrl.rewards.length_scaled import LengthScaled
from llmrl.rewards.repetition import Repetition
from llmrl.rewards.rlsp import RLSP, Explored
from llmrl.scoring.trl_functions import TrainerState
from llmrl.types import Completion, Problem, Score, Trajectory, Turn

Given = Mapping[str, Any]
WRONG = Score(0.0, "wrong")


def rlsp_author_reward(given: Given) -> dict[str, Any]:
    """Rewards by the authors' rule. A failed grade is 0.5 there and no value in llmrl, so 0.5 is passed as a grade."""
    reward, answers = RLSP(form="released", weight=given["alpha"], penalty=given["C"]), []
    for one in given["rows"]:
        text = "x" * one["reasoning_chars"] + ("\\boxed{1}" if one["boxed"] else "")
        score = Score(1.0, "correct") if one["correct"] else WRONG
        grade = 0.5 if one["grade"] == -1 else one["grade"]
        answers.append(reward.released(score, text, grade))
    short_right, long_wrong = answers[1], answers[2]
    return {"reward": answers, "long_wrong_beats_short_right": long_wrong > short_right}


def rlsp_length_bonus(given: Given) -> dict[str, Any]:
    released = RLSP(form="released", penalty=given["C"])
    spoken = [
        Trajectory(
            problem=Problem(id="p", messages=[]),
            turns=[Turn(prompt_ids=[0], completion=_completion(length), text="")],
            status="done",
        )
        for length in given["lengths"]
    ]
    explored = Explored(RLSP(tau=given["tau"]), None, None, TrainerState())  # type: ignore[arg-type]
    return {
        "hyperbolic": [released.released(WRONG, "x" * 4 * n + "\\boxed{1}", None) for n in given["lengths"]],
        "bounded": [score.value for score in wait(explored._grades(spoken))],
    }


def rlsp_bounded(given: Given) -> dict[str, Any]:
    reward, alpha = RLSP(weight=given["alpha"]), given["alpha"]
    right, wrong = ([reward.bounded(side, e, alpha) for e in given["explore"]] for side in (True, False))
    return {"worst_correct": min(right), "best_wrong": max(wrong), "separated": min(right) > max(wrong)}


def prm_clip_delta(given: Given) -> dict[str, Any]:
    scores, eta = given["scores"], given["eta"]
    answers: dict[str, Any] = {}
    for form in ("pr", "clip", "delta", "clip_delta"):
        rewards = shaped(scores, form, eta)  # type: ignore[arg-type]
        answers[form], answers[f"sum_{form}"] = rewards, sum(rewards)
        paid = ClipDelta(form=form, eta=eta, alpha=given["alpha"]).rewards(scores)  # type: ignore[arg-type]
        paid[-1] += given["correct"]
        answers[f"return_{form}"] = returns(paid, [True] * len(paid)).tolist()
    return answers


def prm_repetition_attack(given: Given) -> dict[str, Any]:
    base, forms = given["base"], ("pr", "clip", "delta", "clip_delta")
    stuffed = [[*base[:2], *[given["filler"]] * n, *base[2:]] for n in given["n"]]
    return {form: [sum(shaped(scores, form, given["eta"])) for scores in stuffed] for form in forms}  # type: ignore[arg-type]


def cosine_reward(given: Given) -> dict[str, Any]:
    reward = CosineLength(
        max_length=given["l_max"],
        correct_shortest=given["r_c0"],
        correct_longest=given["r_cL"],
        wrong_shortest=given["r_w0"],
        wrong_longest=given["r_wL"],
        exceed=given["r_exceed"],
        margin=0,
    )
    sides = (("correct", True), ("wrong", False))
    return {name: [reward.value(side, length) for length in given["lengths"]] for name, side in sides}


def length_scaled_reward(given: Given) -> dict[str, Any]:
    reward = LengthScaled(max_length=given["l_max"], risk=given["k"])
    sides = (("correct", True), ("wrong", False))
    return {name: [reward.value(side, length) for length in given["lengths"]] for name, side in sides}


def repetition_penalty(given: Given) -> dict[str, Any]:
    dense = Repetition(form="dense", window=given["N"], penalty=given["P"]).of(given["tokens"])
    whole = Repetition(form="sequence", window=given["seq_N"], penalty=given["seq_max"])
    return {
        "dense": list(dense.token_rewards or ()),
        "seq": [whole.of(tokens).value for tokens in given["seq_examples"]],
    }


def _completion(length: int) -> Completion:
    return Completion(token_ids=[0] * length, logprobs=[0.0] * length, finish="stop", version=0)
