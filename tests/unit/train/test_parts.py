"""The parts of a run: what each does behind a step, what it keeps, and that it goes on from there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from llmrl.algorithms.bc import BC
from llmrl.algorithms.grpo import GRPO
from llmrl.algorithms.ppo import PPO
from llmrl.algorithms.pro import PRO
from llmrl.algorithms.reinforce_pp import ReinforcePP
from llmrl.algorithms.rloo import RLOO
from llmrl.algorithms.t1 import T1
from llmrl.errors import RecipeError, TrainingError
from llmrl.recipe import TrainOptions
from llmrl.run_folder.writer import Logs
from llmrl.samples import Sample
from llmrl.train import parts
from llmrl.train.adaptation import Adaptation
from llmrl.train.checkpoints import Checkpoints
from llmrl.train.evaluation import Evaluation
from llmrl.train.guards import UpdateGuard
from llmrl.train.learner import OptimStep
from llmrl.train.normaliser import RewardNormaliser
from llmrl.train.parts import Clock, FinishedStep
from llmrl.train.policies import TrainedPolicy
from llmrl.train.saver import Saver
from tests import builders


def finished(step: int, **metrics: float) -> FinishedStep:
    return FinishedStep(step=step, samples=(), groups=(), metrics=metrics)


def sample(group: str = "g", reward: float = 0.0) -> Sample:
    return builders.sample(
        group=group, reward=reward, turn_rewards=[0.0], token_ids=[0, 1], turn_ids=[-1, 0], sampled_logprobs=[0.0, -1.0]
    )


# Clock


def test_a_clock_adds_up_phases_and_forgets_them_with_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(parts, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    clock = Clock()
    for phase, seconds in (("train", 2.0), ("sync", 0.5), ("train", 1.0)):
        with clock(phase):
            now[0] += seconds
    assert clock.metrics() == {"time/train": 3.0, "time/sync": 0.5}
    assert clock.step_seconds == 3.5
    clock.begin()
    assert (clock.metrics(), clock.step_seconds) == ({}, 0.0)


# Adaptation


def test_an_algorithm_counts_its_own_steps_behind_those_that_collect() -> None:
    adaptation = Adaptation(PPO(critic_warmup=1), collect_only_steps=2)
    learners = [[update.model for update in adaptation.updates(step)] for step in range(4)]
    assert learners == [[], [], ["critic"], ["critic", "policy"]]


def test_only_what_has_moved_is_kept_and_restored() -> None:
    adaptation = Adaptation(T1(entropy_coef=0.002), collect_only_steps=1)
    adaptation.after_step(finished(0, entropy=9.0))
    assert adaptation.state() == {}, "nothing has learned yet"
    adaptation.after_step(finished(1, entropy=2.5))
    assert adaptation.state() == {"starting_entropy": 2.5}
    other = Adaptation(T1(entropy_coef=0.002), collect_only_steps=1)
    other.restore(json.loads(json.dumps(adaptation.state())))
    assert other.algorithm == adaptation.algorithm == T1(entropy_coef=0.002, starting_entropy=2.5)


@pytest.mark.parametrize("algorithm", [GRPO(), RLOO(beta=0.0), ReinforcePP(baseline="group", beta=0.0)])
def test_stored_answers_without_siblings_are_refused_where_they_are_compared(algorithm: Any) -> None:
    alone = [sample("a", 1.0), sample("b", 0.0)]
    with pytest.raises(RecipeError, match=r"none of the step's 2 problems has two answers to compare"):
        Adaptation(algorithm, 0, stored=True).credit(alone)
    pair = [replace(sample("a", reward), episode=number) for number, reward in enumerate((1.0, 0.0))]
    assert Adaptation(algorithm, 0, stored=True).credit([*pair, sample("b")])
    assert Adaptation(BC(), 0, stored=True).credit(alone)


def test_an_algorithm_adapts_to_the_metrics_of_its_own_agent() -> None:
    adaptation = Adaptation(T1(entropy_coef=0.002), collect_only_steps=0, agent="second")
    adaptation.after_step(finished(0, entropy=9.0))
    assert adaptation.state() == {}, "that is the policy's"
    adaptation.after_step(finished(0, **{"entropy": 9.0, "agents/second/entropy": 2.5}))
    assert adaptation.state() == {"starting_entropy": 2.5}


def test_where_nobody_spoke_no_algorithm_is_asked() -> None:
    adaptation = Adaptation(PRO(), collect_only_steps=0)
    adaptation.metrics = {"of": 1.0}
    assert (adaptation.credit([]), adaptation.metrics) == ([], {})


def test_samples_are_of_the_policy_of_their_agent() -> None:
    rows = [sample(agent) for agent in ("pro", "con", "judge", "")]
    rows = [replace(row, agent=row.group) for row in rows]

    def own(agent: str, *apart: str) -> list[str]:
        nothing = cast(Any, None)
        policy = TrainedPolicy(agent=agent, learners=nothing, adaptation=nothing, sync=nothing, apart=frozenset(apart))
        return [row.agent for row in policy.own(rows)]

    assert own("") == ["pro", "con", "judge", ""]
    assert own("", "con", "judge") == ["pro", ""]
    assert (own("con", "con", "judge"), own("judge", "con", "judge")) == (["con"], ["judge"])


def test_an_algorithm_that_does_not_adapt_stays() -> None:
    adaptation = Adaptation(GRPO(), collect_only_steps=0)
    adaptation.after_step(finished(0, entropy=1.0))
    adaptation.restore(adaptation.state())
    assert adaptation.algorithm == GRPO()


# Rewards


def test_rewards_are_standardised_by_all_so_far_across_a_resume() -> None:
    """1 and 3: mean 2, deviation sqrt(2). With 5: mean 3, deviation 2, so 5 becomes 1."""
    normaliser = RewardNormaliser(enabled=True)
    rewards = [row.reward for row in normaliser([sample("a", 1.0), sample("b", 3.0)])]
    assert rewards == pytest.approx([-(0.5**0.5), 0.5**0.5])
    other = RewardNormaliser(enabled=True)
    other.restore(json.loads(json.dumps(normaliser.state())))
    assert [row.reward for row in other([sample("c", 5.0)])] == pytest.approx([1.0])
    assert other.metrics() == pytest.approx({"reward_norm/mean": 3.0, "reward_norm/std": 2.0})


def test_rewards_of_a_dropped_step_leave_the_moments() -> None:
    normaliser = RewardNormaliser(enabled=True)
    normaliser([sample("a", 1.0), sample("b", 3.0)])
    before = normaliser.moments
    normaliser.mark()
    normaliser([sample("c", 9.0)])
    assert normaliser.moments != before
    normaliser.rewind()
    assert normaliser.moments == before


def test_rewards_pass_where_nothing_asks_for_it() -> None:
    normaliser = RewardNormaliser(enabled=False)
    rows = [sample(reward=7.0)]
    assert normaliser(rows) is rows
    assert (normaliser.metrics(), normaliser.moments.count) == ({}, 0)


# Updates that are not finite


def optim_step(applied: bool, model: str = "policy") -> OptimStep:
    return OptimStep(model, {}, applied, tokens=1, slots=1)


def test_skipped_updates_in_a_row_stop_a_run_also_across_a_resume(tmp_path: Path) -> None:
    logs = Logs(tmp_path, True, 1.0)
    guard, bad, good = UpdateGuard(logs, most=3), optim_step(False), optim_step(True)
    assert guard(0, [sample()], bad) is bad
    assert guard(0, [sample()], good) is good, "and the count begins anew"
    guard(1, [sample()], bad)
    guard(2, [sample("x")], bad)
    other = UpdateGuard(logs, most=3)
    other.restore(guard.state())
    with pytest.raises(TrainingError, match=r"^step 3: 3 updates in a row .*nonfinite-step-3.jsonl \(2 rows of a, b\)"):
        other(3, [sample("b"), sample("a")], bad)
    assert json.loads((tmp_path / "nonfinite-step-2.jsonl").read_text())["group"] == "x"


def test_a_model_that_learns_hides_no_other_that_does_not(tmp_path: Path) -> None:
    guard = UpdateGuard(Logs(tmp_path, True, 1.0), most=2)
    guard(0, [sample()], optim_step(False, "policy"))
    guard(0, [sample()], optim_step(True, "critic"))
    with pytest.raises(TrainingError, match=r"^step 1: 2 updates in a row of the policy had a loss"):
        guard(1, [sample()], optim_step(False, "policy"))


# Evaluation


class Scripted(Evaluation):
    """Averages that are known beforehand, by steps."""

    def __init__(self, averages: Mapping[int, float]) -> None:
        self._averages = averages
        self._every, self._last = 2, 7
        self._rank = (0, 1)
        self._best = None
        self._clock = Clock()
        self._on_sample = lambda *_: None

    def __call__(self, done: int, on_sample: Any = None) -> dict[str, float]:
        return {"eval/first/truncated": 0.9, "eval/first/avg@1": self._averages[done], "eval/second/avg@1": 1.0}


def test_the_best_of_the_first_benchmark_is_saved_and_remembered() -> None:
    evaluation, asked = Scripted({2: 0.3, 4: 0.5, 6: 0.5, 7: 0.6}), []
    for step in range(7):
        end = finished(step)
        evaluation.after_step(end)
        asked.append(end.save)
        assert ("eval/first/avg@1" in end.metrics) == (step + 1 in (2, 4, 6, 7))
        if step == 4:
            state = json.loads(json.dumps(evaluation.state()))
            evaluation = Scripted({6: 0.5, 7: 0.6})
            evaluation.restore(state)
    assert [step + 1 for step, save in enumerate(asked) if save] == [2, 4, 7], "an average that is no higher is no best"
    assert evaluation.best_step == 7


# Saving


class Written:
    """A part that records what a checkpoint would hold."""

    def __init__(self) -> None:
        self.saved: list[tuple[int, Mapping[str, Any], int | None]] = []
        self.flushed = 0

    def save(self, step: int, states: Mapping[str, Any], *, best: int | None) -> Path:
        assert self.flushed == len(self.saved) + 1, "the logs are on the disk before a checkpoint is"
        self.saved.append((step, states, best))
        return Path(f"step-{step}")

    def flush(self) -> None:
        """In place of the logs."""
        self.flushed += 1

    def restore(self, checkpoint: Path) -> tuple[int, Mapping[str, Any]]:
        return self.saved[-1][:2]


@pytest.fixture
def saver() -> Callable[..., tuple[Saver, Written, RewardNormaliser]]:
    def make(best: int | None = None, **options: Any) -> tuple[Saver, Written, RewardNormaliser]:
        written, normaliser = Written(), RewardNormaliser(enabled=True)
        evaluation = cast(Evaluation, SimpleNamespace(best_step=best))
        train = TrainOptions(**{"max_steps": 7, "save_steps": 3} | options)
        parts = {"rewards": normaliser}
        saver = Saver(cast(Checkpoints, written), parts, evaluation, train, cast(Logs, written))
        return saver, written, normaliser

    return make


def steps_saved(made: tuple[Saver, Written, Any], asked: Sequence[int] = ()) -> list[int]:
    for step in range(7):
        end = finished(step)
        end.save = step in asked
        made[0].after_step(end)
    return [step for step, *_ in made[1].saved]


def test_a_run_is_saved_when_it_is_due_at_its_end_and_where_a_part_asks(saver: Any) -> None:
    assert steps_saved(saver()) == [3, 6, 7]
    assert steps_saved(saver(save_steps=0)) == [7]
    assert steps_saved(saver(), asked=[0, 2]) == [1, 3, 6, 7]


def test_an_alarm_ends_a_run_behind_a_checkpoint(saver: Any) -> None:
    made, written, _ = saver(best=1)
    end = finished(1)
    end.alarm = "the two part"
    with pytest.raises(TrainingError, match=r"^the two part. It was saved in step-2; with audit.stop=false it goes on"):
        made.after_step(end)
    assert [(step, best) for step, _, best in written.saved] == [(2, 1)]


def test_the_step_that_a_callback_makes_the_last_is_saved(saver: Any) -> None:
    made, written, _ = saver(best=1)
    end = finished(1)
    end.ends = "good enough"
    made.after_step(end)
    assert [step for step, _, _ in written.saved] == [2]
    assert made.saved == 2


def test_the_state_of_every_part_goes_back_to_it(saver: Any) -> None:
    made, written, normaliser = saver()
    normaliser([sample("a", 1.0), sample("b", 3.0)])
    made.after_step(finished(2))
    other, again, fresh = saver()
    again.saved = written.saved
    assert other.restore(Path("step-3")) == other.saved == 3
    assert fresh.moments == normaliser.moments
