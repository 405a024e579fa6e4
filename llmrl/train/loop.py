"""The one loop. It serves every algorithm, engine, environment and reward, and knows none of them."""

from __future__ import annotations

from llmrl.train.run import Run


def train(run: Run) -> None:
    """Take the recipe's steps, from wherever the run stands; what a step did is logged, evaluated and saved.

    Raises:
        LlmrlError: a child that says what to do next; the last complete checkpoint stays in force.
    """
    run.start()
    for step in range(run.first_step, run.recipe.train.max_steps):
        with run.clock("rollout"):
            samples = run.normalised(run.source.next(step))  # what happened
            run.engine.sleep()  # until the sync, its memory is the trainer's
        with run.clock("logprobs"):
            samples = run.learners.annotate(samples, run.algorithm.needs())  # what the models think of it
        samples = run.algorithm.credit(samples)  # who deserves what
        with run.clock("train"):
            for update in run.updates(step):  # who learns, from which loss
                for rows, optim_step in run.learners.fit(
                    samples, update, seed=step, rate=run.learning_rate(step, update.model)
                ):
                    run.record_update(step, rows, optim_step)
        with run.clock("sync"):
            run.send(version=step + 1)
        run.finish_step(step, samples)  # log, evaluate, save
    run.finish()
