"""Label reasoning steps by Monte-Carlo: the share of completions behind each step that reach the right answer."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from llmrl.aio import wait
from llmrl.answers.steps import steps as parts
from llmrl.chat import Chat
from llmrl.errors import DataError
from llmrl.evaluation.generators import EngineGenerator
from llmrl.plugins import build
from llmrl.reward_models.stepwise import monte_carlo
from llmrl.rollout.step_rewards import last_tokens
from llmrl.scoring.manager import GradingPool, GroupScorer, as_group_reward
from llmrl.types import Completion, Problem, Sampling, Score, Trajectory, Turn

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """Options of labelling. Labels are values under the model that completes: never mix those of several models."""

    separator: str = "\n"  # ends a step
    solutions: int = 4  # of each problem, sampled by the same model
    completions: int = 8  # behind each step but the last, which has the outcome of the solution
    soft: bool = False  # the share that came out right; else whether it is above `threshold`
    threshold: float = 0.0
    stop_at_first_error: bool = False  # nothing is completed, and nothing labelled, behind the first hard 0
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.solutions < 1 or self.completions < 1 or not self.separator:
            raise ValueError("expected solutions and completions of at least 1 and a separator that is not empty")


@dataclass(frozen=True, slots=True)
class LabelledSolution:
    """A solution with its labels."""

    problem: Problem
    steps: list[str]
    labels: list[float]
    counts: list[int]  # completions behind each step that came out right; -1 where none was asked for
    correct: bool
    finish: str

    def row(self, completions: int) -> dict[str, Any]:
        """Row in TRL's stepwise columns, with the counts that the labels were made from."""
        return {
            "problem": self.problem.id,
            "prompt": [dict(message) for message in self.problem.messages],
            "completions": self.steps,
            "labels": self.labels,
            "counts": self.counts,
            "n_rollouts": completions,
            "correct": self.correct,
            "finish_reason": self.finish,
        }


async def label(
    problem: Problem, number: int, player: EngineGenerator, reward: GroupScorer, options: Labelling
) -> LabelledSolution | None:
    """Sample a solution to a problem and label it; None where it has no words, or a grader could not judge.

    Every completion continues the tokens of the solution itself; no sampled text is encoded again.

    Args:
        number: of the solution; with the seed and the problem it determines the samples.
        player: an engine, of any kind, and how it is asked.
        reward: a group reward with a verdict.
    """
    prompt = player.chat.prompt_ids(problem.messages)
    completion = await player.engine.generate(prompt, _sampling(options, problem, number, "solution"))
    text = player.chat.text(completion.token_ids)
    ends = step_ends(text, options.separator)
    if not ends:
        return None
    outcome = await _right([_played(problem, player.chat, prompt, completion, text)], reward)
    if outcome is None:
        return None
    places = last_tokens(player.chat, completion.token_ids, ends)
    counts: list[int] = []
    async for count in _counts(problem, number, player, reward, options, prompt, completion, places[:-1]):
        if count is None:
            return None
        counts.append(count)
    counts += [-1] * (len(ends) - len(counts) - 1)
    labels = monte_carlo(
        [*(max(count, 0) for count in counts), 0],
        options.completions,
        float(outcome),
        soft=options.soft,
        threshold=options.threshold,
        stop_at_first_error=options.stop_at_first_error,
    )
    texts = [step.strip() for step in parts(text, ends)]
    return LabelledSolution(problem, texts, labels, [*counts, -1], bool(outcome), completion.finish)


def step_ends(text: str, separator: str) -> list[int]:
    """Ends of steps, in characters, the separator included; steps without a word belong to the next."""
    ends: list[int] = []
    start = 0
    while (at := text.find(separator, start)) >= 0:
        start = at + len(separator)
        if text[ends[-1] if ends else 0 : at].strip():
            ends.append(start)
    if text[ends[-1] if ends else 0 :].strip():
        ends.append(len(text))
    elif ends:
        ends[-1] = len(text)
    return ends


async def _counts(
    problem: Problem,
    number: int,
    player: EngineGenerator,
    reward: GroupScorer,
    options: Labelling,
    prompt: list[int],
    completion: Completion,
    places: Sequence[int],
) -> AsyncIterator[int | None]:
    """Count the right completions behind each step; step after step where the first 0 ends the labelling."""

    async def ask(step: int) -> int | None:
        before = completion.token_ids[: places[step] + 1]
        room = replace(options.sampling, max_tokens=max(1, options.sampling.max_tokens - len(before)))
        asked = [
            player.engine.generate(
                [*prompt, *before], replace(room, seed=_sampling(options, problem, number, f"{step}/{n}").seed)
            )
            for n in range(options.completions)
        ]
        completions = await asyncio.gather(*asked)
        played = [
            _played(problem, player.chat, prompt, reply, player.chat.text([*before, *reply.token_ids]))
            for reply in completions
        ]
        return await _right(played, reward)

    if not options.stop_at_first_error:
        for count in await asyncio.gather(*(ask(step) for step in range(len(places)))):
            yield count
        return
    for step in range(len(places)):
        count = await ask(step)
        yield count
        if count is None or count / options.completions <= options.threshold:
            return


async def _right(played: Sequence[Trajectory], reward: GroupScorer) -> int | None:
    """Count correct answers; None where one could not be judged."""
    scores: list[Score] = await reward.score(played)
    right = [score.correct for score in scores if score.value is not None]
    return None if None in right or len(right) < len(scores) else sum(map(bool, right))


def _played(problem: Problem, chat: Chat, prompt: list[int], completion: Completion, text: str) -> Trajectory:
    turn = Turn(prompt_ids=prompt, completion=completion, text=text, opened=chat.opened(prompt))
    return Trajectory(problem=problem, turns=[turn], status="done")


def _sampling(options: Labelling, problem: Problem, number: int, what: str) -> Sampling:
    """Sampling with a seed of the options, problem, solution and place, however the work is divided."""
    name = f"{options.seed}/{problem.id}/{number}/{what}".encode()
    return replace(options.sampling, seed=int.from_bytes(hashlib.blake2b(name, digest_size=4).digest()) >> 1)


def write(
    model: str,
    data: Mapping[str, Any] | str,
    reward: Mapping[str, Any] | str,
    out: Path,
    options: Labelling,
    *,
    engine: Mapping[str, Any] | str = "vllm",
    limit: int | None = None,
    say: Say = print,
) -> int:
    """Write labelled solutions to a .jsonl file, each as soon as it is there; returns their number.

    Args:
        model: a folder or a hub name, which solves and completes.
        data, reward: plug-ins by name, or with their options; the reward gives verdicts.
        out: a file that is not there yet.
        engine: a name, or a name with options.
        limit: the first problems only.
    Raises:
        DataError: the file is there already or cannot be written, or no solution could be labelled.
        RecipeError, CheckpointError, EngineError: no such plug-in; the model or the engine does not load.
    """
    if out.exists():
        raise DataError(f"{out}: is there already; choose another --out, or remove it")
    return wait(_write(model, data, reward, out, options, engine, limit, say))


async def _write(
    model: str, data: Any, reward: Any, out: Path, options: Labelling, engine: Any, limit: int | None, say: Say
) -> int:
    from llmrl.evaluation.run import EvalSetup, local_player

    problems = list(islice(build("data", data, "--data").problems(), limit))
    graded = build("reward", reward, "--reward")
    setup = EvalSetup(engine=engine)
    kept = right = 0
    with (
        GradingPool(setup.reward_workers, setup.reward_timeout_s) as pool,
        local_player(model, setup, options.seed, options.sampling.max_tokens) as player,
        opened(out) as file,
    ):
        lifted, slots = as_group_reward(graded, pool), asyncio.Semaphore(32)

        async def one(problem: Problem, number: int) -> LabelledSolution | None:
            async with slots:
                return await label(problem, number, player, lifted, options)

        tasks = [asyncio.ensure_future(one(p, n)) for p in problems for n in range(options.solutions)]
        try:
            for done in asyncio.as_completed(tasks):
                if (found := await done) is not None:
                    file.write(json.dumps(found.row(options.completions)) + "\n")
                    file.flush()
                    kept, right = kept + 1, right + found.correct
        finally:
            for task in tasks:
                task.cancel()
    say(f"{kept} solutions, {right} of them right; {len(tasks) - kept} without words or without a verdict: {out}")
    if not kept:
        raise DataError(f"{out}: no solution could be labelled; is {graded} a reward with verdicts?")
    return kept


def opened(path: Path) -> Any:
    """Open a file that is not there yet, for writing.

    Raises:
        DataError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "x", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}; choose another --out") from None
