"""The one loop. It serves every algorithm, engine, environment and reward, and knows none of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llmrl.samples import Sample
from llmrl.train.guards import UpdateGuard
from llmrl.train.parts import Clock
from llmrl.train.policies import PolicyStep, TrainedPolicy
from llmrl.train.run import Run


class LearningRun(Protocol):
    """The parts of a run that its policies learn with."""

    clock: Clock
    guard: UpdateGuard


def train(run: Run) -> None:
    """Take the recipe's steps, from wherever the run stands; what a step did is logged, evaluated and saved.

    Raises:
        LlmrlError: a child that says what to do next; the last complete checkpoint stays in force.
        Stopped: a signal asked for it.
    """
    run.start()
    for step in range(run.first_step, run.recipe.train.max_steps):
        run.begin(step)
        with run.clock("rollout"), run.stopping.interrupting():
            samples = run.normaliser(run.source.next(step))  # what happened
            for policy in run.policies:  # one, and one more for each agent that learns by itself
                policy.sync.sleep()  # until it is needed, the engine's memory is the trainer's
        learned = [learn(run, policy, policy.own(samples), step) for policy in run.policies]
        with run.clock("sync"):
            for policy in run.policies:
                policy.sync(version=step + 1)
        finished = run.recorder.measured(step, learned)
        for part in run.after_step:  # follow, adapt, evaluate, audit, log, save
            part.after_step(finished)
        if finished.ends:  # a callback asked for it
            break
    run.finish()


def learn(run: LearningRun, policy: TrainedPolicy, samples: Sequence[Sample], step: int) -> PolicyStep:
    """Let a policy learn from its samples of a step."""
    with run.clock("logprobs"):
        samples = policy.adaptation.asked(samples)
        samples = policy.learners.annotate(samples, policy.algorithm.needs())  # what the models think of it
    samples = policy.adaptation.credit(samples)  # who deserves what
    updates = []
    with run.clock("train"):
        for update in policy.adaptation.updates(step):  # who learns, from which loss
            rate = policy.learners.learning_rate(step, update.model)
            for rows, optim_step in policy.learners.fit(samples, update, seed=step, rate=rate):
                updates.append(run.guard(step, rows, optim_step))  # stops where too many are not finite
    return PolicyStep(policy, samples, updates)
