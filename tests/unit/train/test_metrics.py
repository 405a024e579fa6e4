from __future__ import annotations

from dataclasses import replace

import pytest

from llmrl.train.learner import OptimStep
from llmrl.train.metrics import fit_metrics, rollout_metrics
from llmrl.types import Completion, Finish, Problem, Score, Trajectory, Turn, Verdict

PROBLEM = Problem(id="p", messages=[])


def one(score: Score | None, tokens: int = 2, finish: Finish = "stop") -> Trajectory:
    completion = Completion(token_ids=[1] * tokens, logprobs=[-1.0] * tokens, finish=finish, version=0)
    turns = [Turn(prompt_ids=[1], completion=completion, text="")] if tokens else []
    return Trajectory(problem=PROBLEM, turns=turns, status="done", score=score)


def test_rewards_worked_by_hand() -> None:
    groups = [
        [one(Score(1.0, "correct")), one(Score(0.0, "wrong"))],
        [one(Score(1.0, "correct")), one(Score(1.0, "correct"))],
    ]
    metrics = rollout_metrics(groups)
    assert metrics["reward"] == 0.75
    assert metrics["accuracy"] == 0.75
    # Mean 3/4; squared distances 3/16 + 9/16 = 3/4, over 3, rooted.
    assert metrics["reward_std"] == pytest.approx(0.5)
    assert metrics["frac_reward_zero_std"] == 0.5, "the second group says nothing"
    assert (metrics["verdict/correct_frac"], metrics["verdict/wrong_frac"]) == (0.75, 0.25)


def test_what_could_not_be_scored_is_counted_and_never_averaged() -> None:
    groups = [
        [one(Score(1.0, "correct")), one(Score(None, "timeout"))],
        [one(Score(None, "error")), one(Score(None, "error"))],
        [one(Score(0.0, "wrong")), one(Score(1.0, "correct"))],
    ]
    metrics = rollout_metrics(groups)
    assert metrics["reward"] == pytest.approx(2 / 3)
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["frac_reward_zero_std"] == 0.5, "of the two groups with any score"
    assert metrics["verdict/timeout_frac"] == pytest.approx(1 / 6)
    assert metrics["verdict/error_frac"] == pytest.approx(2 / 6)


def test_a_step_without_any_score_has_no_reward() -> None:
    metrics = rollout_metrics([[one(Score(None, "error"))], [one(None)]])
    assert not {"reward", "reward_std", "accuracy", "frac_reward_zero_std"} & set(metrics)
    assert metrics["verdict/error_frac"] == 1.0
    assert rollout_metrics([]) == {}


def test_a_reward_without_verdicts_has_no_accuracy() -> None:
    metrics = rollout_metrics([[one(Score(0.25)), one(Score(0.75))]])
    assert metrics["reward"] == 0.5
    assert "accuracy" not in metrics


def test_parts_are_averaged_over_those_who_have_them() -> None:
    scores = [Score(1.0, parts={"numeric": 1.0, "format": 0.5}), Score(0.0, parts={"numeric": 0.0, "format": None})]
    metrics = rollout_metrics([[one(score) for score in scores]])
    assert metrics["rewards/numeric/mean"] == 0.5
    assert metrics["rewards/numeric/std"] == pytest.approx(0.5**0.5)
    assert (metrics["rewards/format/mean"], metrics["rewards/format/std"]) == (0.5, 0.0)


def test_lengths_count_completions_and_tell_those_that_ended_apart() -> None:
    metrics = rollout_metrics([[one(Score(0.0), 2), one(Score(0.0), 4), one(Score(0.0), 9, "length"), one(None, 0)]])
    assert metrics["completions/mean_length"] == 5.0
    assert (metrics["completions/min_length"], metrics["completions/max_length"]) == (2.0, 9.0)
    assert metrics["completions/mean_terminated_length"] == 3.0
    assert metrics["completions/max_terminated_length"] == 4.0
    assert metrics["completions/clipped_ratio"] == pytest.approx(1 / 3)


def test_lengths_leave_out_an_opponents_tokens() -> None:
    played = one(Score(1.0, "correct"), 3)
    theirs = replace(played.turns[0], model="them", completion=one(None, 9).turns[0].completion)
    metrics = rollout_metrics([[replace(played, turns=[theirs, played.turns[0], theirs])]])
    assert (metrics["completions/mean_length"], metrics["completions/correct_mean_length"]) == (3.0, 3.0)


def test_updates_that_were_skipped_count_apart() -> None:
    fits = [
        OptimStep("policy", {"loss": 1.0, "kl": 0.5}, True, tokens=60, slots=80),
        OptimStep("policy", {"loss": float("nan")}, False, tokens=10, slots=10),
        OptimStep("policy", {"loss": 3.0}, True, tokens=20, slots=30),
    ]
    metrics = fit_metrics(fits)
    assert (metrics["loss"], metrics["kl"], metrics["updates/skipped"]) == (2.0, 0.5, 1.0)
    assert metrics["perf/padding_fraction"] == pytest.approx(1 - 90 / 120)
    assert fit_metrics([]) == {}


def test_what_another_model_learned_carries_its_name() -> None:
    models = ("policy", "critic", "agents/second/policy", "agents/second/critic")
    fits = [OptimStep(model, {"loss": float(i)}, True, tokens=1, slots=1) for i, model in enumerate(models)]
    metrics = fit_metrics(fits)
    del metrics["perf/padding_fraction"], metrics["updates/skipped"]
    assert metrics == {"loss": 0, "critic/loss": 1, "agents/second/loss": 2, "agents/second/critic/loss": 3}


def test_dense_rewards_are_summed_by_answer() -> None:
    scores = [
        Score(1.0, token_rewards=[0.5, -0.25]),
        Score(1.0, token_rewards=[0.0, 0.0]),
        Score(None, token_rewards=[9]),
    ]
    assert rollout_metrics([[one(score) for score in [*scores, Score(1.0)]]])["reward_dense"] == 0.125
    assert "reward_dense" not in rollout_metrics([[one(Score(1.0))]])


def test_lengths_by_verdict_and_how_parts_go_with_being_right() -> None:
    def shaped(verdict: Verdict | None, tokens: int, part: float | None, value: float | None = 0.5) -> Trajectory:
        return one(Score(value, verdict, parts={"explore": part, "same": 1.0}), tokens)

    episodes = [
        shaped("correct", 2, 0.2),
        shaped("correct", 4, 0.4),
        shaped("wrong", 9, 0.9),
        shaped("wrong", 9, None),
        shaped("error", 99, 0.0, None),
        shaped(None, 99, 0.0),
    ]
    metrics = rollout_metrics([episodes])
    assert metrics["completions/correct_mean_length"] == 3.0
    assert metrics["completions/wrong_mean_length"] == 9.0
    # 0.2, 0.4, 0.9 with 1, 1, 0; from the mean: -0.3, -0.1, 0.4 with 1/3, 1/3, -2/3: -0.4 / sqrt(0.26 * 2/3).
    assert metrics["rewards/explore/correct_corr"] == pytest.approx(-0.9607689228)
    assert "rewards/same/correct_corr" not in metrics, "a part that never changes goes with nothing"


def test_a_form_that_is_paid_without_an_answer_is_counted() -> None:
    scores = [
        Score(1.1, "correct", {"format": 1.0, "numeric": 1.0}),
        Score(0.1, "wrong", {"format": 1.0, "numeric": 0.0}),
        Score(0.1, "unparsable", {"format": 1.0, "numeric": 0.0}),
        Score(0.0, "wrong", {"format": 0.0, "numeric": 0.0}),
        Score(0.1, None, {"format": 1.0, "numeric": 0.0}),  # nobody judged it
    ]
    metrics = rollout_metrics([[one(score) for score in scores]])
    assert metrics["rewards/format/paid_wrong_frac"] == 0.5
    assert metrics["rewards/numeric/paid_wrong_frac"] == 0.0
    assert "rewards/length/paid_wrong_frac" not in rollout_metrics([[one(Score(0.0, "wrong", {"length": -1.0}))]])


def test_rewards_of_turns_are_part_of_the_reward() -> None:
    def turns(value: float, *rewards: float) -> Trajectory:
        episode = one(Score(value))
        return replace(episode, turns=[replace(episode.turns[0], reward=reward) for reward in rewards])

    metrics = rollout_metrics([[turns(1.0, 0.5, 0.25), turns(1.0, 0.0)], [turns(0.0, 1.0), turns(1.0, 0.0)]])
    assert metrics["reward"] == (1.75 + 1.0 + 1.0 + 1.0) / 4
    assert metrics["frac_reward_zero_std"] == 0.5, "of the second group, whatever made up its rewards"
