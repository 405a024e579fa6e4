"""The one loop. It serves every algorithm, engine, environment and reward, and knows none of them."""

from __future__ import annotations

from llmrl.train.run import Run


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
            run.sync.sleep()  # until then, the engine's memory is the trainer's
        with run.clock("logprobs"):
            samples = run.adaptation.asked(samples)
            samples = run.learners.annotate(samples, run.algorithm.needs())  # what the models think of it
        samples = run.adaptation.credit(samples)  # who deserves what
        updates = []
        with run.clock("train"):
            for update in run.adaptation.updates(step):  # who learns, from which loss
                rate = run.learners.learning_rate(step, update.model)
                for rows, optim_step in run.learners.fit(samples, update, seed=step, rate=rate):
                    updates.append(run.guard(step, rows, optim_step))  # stops where too many are not finite
        with run.clock("sync"):
            run.sync(version=step + 1)
        finished = run.recorder.measured(step, samples, updates)
        for part in run.after_step:  # follow, adapt, evaluate, audit, log, save
            part.after_step(finished)
    run.finish()
