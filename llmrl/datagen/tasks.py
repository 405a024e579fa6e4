"""New tasks for a next phase, from those that failed in the last: proposed, filtered by a critic, judged feasible."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Literal

from llmrl.aio import wait
from llmrl.chat import Chat, load_tokenizer
from llmrl.clients.retry import together
from llmrl.critics.start_values import start_values
from llmrl.datafiles.rows import problem_row
from llmrl.datagen.replies import replies
from llmrl.datagen.step_labels import opened
from llmrl.errors import DataError, LlmrlError
from llmrl.ops.webrl import within_reach
from llmrl.plugins import build, name_of
from llmrl.protocols import Engine
from llmrl.recipe import RolloutOptions
from llmrl.rollout.environments import Environments
from llmrl.run_folder import reader
from llmrl.types import Observation, Problem, Sampling

log = logging.getLogger(__name__)

PROPOSE = (
    "Tasks for an agent:\n\n{tasks}\n\nWrite new tasks of the same domain and of similar difficulty, phrased "
    "differently and realistic, which reuse names that occur above. Put each into back-ticks, like `this`."
)
FEASIBLE = "A task for an agent: {task}\n\nCan it be completed? Reply with [YES] or [NO], and the reason behind it."
SPAN, REPLY = re.compile(r"`+([^`]+)`+"), re.compile(r"\[(YES|NO)\]", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """Settings of new tasks from a phase's failures."""

    data: Mapping[str, Any] | str  # the tasks of the last phase
    rollouts: str  # of that phase; tasks that it never completed are varied
    model: str  # whose chat template the critic's prompts are in, and which proposes and judges
    critic: str | None = None  # a folder, final/critic; None: tasks are not filtered by value
    proposer: Literal["model", "seeds"] = "seeds"  # seeds: the same tasks with other numbers in `seed_column`
    count: int = 500  # tasks that are kept at most
    low: float = 0.05  # least and greatest value of a task's start, by either head
    high: float = 0.75
    judge: bool = False  # the model says for each task if it is feasible
    site_column: str | None = None  # of `info`: only tasks of one site are shown together
    seed_column: str = "seed"  # of `info`
    seeds_from: int = 0  # seeds are drawn from this one
    seeds_to: int = 1_000_000  # to below this one, where those of tests begin
    env: Mapping[str, Any] | str = "single_turn"  # whose first observation the critic judges
    variants: int = 4  # of each failed task by seeds, or calls for each site by the model
    shown: int = 10  # failed tasks in a call
    max_tokens: int = 1024  # of a reply
    seed: int = 0
    engine: Mapping[str, Any] | str = "vllm"

    def __post_init__(self) -> None:
        build("data", self.data, "data")
        build("env", self.env, "env")
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low {self.low}, high {self.high}: expected probabilities, the first below the second")
        if not 0 <= self.seeds_from <= self.seeds_to - self.variants:
            raise ValueError(f"seeds_from {self.seeds_from}, seeds_to {self.seeds_to}: expected room for variants")
        for name in ("count", "variants", "shown", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least 1")

    @property
    def asks(self) -> bool:
        """True if a model generates."""
        return self.judge or self.proposer == "model"


def failed(problems: Sequence[Problem], rollouts: Path) -> list[Problem]:
    """Problems that were tried and never completed.

    Raises:
        DataError: the episodes cannot be read.
    """
    tried, right = set(), set()
    for record in reader.episodes(rollouts):
        played = record.trajectory
        if played.earned is None:  # nobody could judge it: no failure of the policy's
            continue
        tried.add(played.problem.id)
        correct = None if played.score is None else played.score.correct
        if correct or (correct is None and played.earned > 0):
            right.add(played.problem.id)
    return [problem for problem in problems if problem.id in tried - right]


def by_seeds(problems: Sequence[Problem], options: TaskOptions) -> Iterator[Problem]:
    """Each problem with other seeds in its `info`, which its environment reads."""
    random = Random(f"{options.seed}/tasks")
    for problem in problems:
        for seed in random.sample(range(options.seeds_from, options.seeds_to), options.variants):
            info = {**problem.info, options.seed_column: seed}
            yield replace(problem, id=f"{problem.id}/{options.seed_column}-{seed}", info=info)


def spans(text: str) -> list[str]:
    """Every text between back-ticks."""
    return [span.strip() for span in SPAN.findall(text) if span.strip()]


def distinct(tasks: Sequence[Problem], known: Sequence[Problem], seed_column: str = "seed") -> list[Problem]:
    """Tasks in their order, without those that read like another, or like a known one, and have its seed."""
    seen = {_read_as(problem, seed_column) for problem in known}
    kept = []
    for task in tasks:
        if (key := _read_as(task, seed_column)) not in seen:
            seen.add(key)
            kept.append(task)
    return kept


async def by_model(problems: Sequence[Problem], options: TaskOptions, engine: Engine, chat: Chat) -> list[Problem]:
    """Tasks that a model writes after failed ones of the same site; their instruction replaces that of one of these."""
    random, calls = Random(f"{options.seed}/tasks"), []
    for site in sorted({_site(problem, options) for problem in problems}):
        own = [problem for problem in problems if _site(problem, options) == site]
        calls += [random.sample(own, min(options.shown, len(own))) for _ in range(options.variants)]
    prompts = [PROPOSE.format(tasks="\n".join(f"- {_task(problem)}" for problem in some)) for some in calls]
    written = await replies(prompts, engine, chat, _sampling(options, 1.0))
    return [
        _instructed(some[0], text, f"proposed/{options.seed}/{call}/{number}")
        for call, (some, reply) in enumerate(zip(calls, written, strict=True))
        for number, text in enumerate(spans(reply))
    ]


async def feasible(tasks: Sequence[Problem], options: TaskOptions, engine: Engine, chat: Chat) -> list[Problem]:
    """Tasks of which the model says [YES] first; a reply without either word is a no."""
    prompts = [FEASIBLE.format(task=_task(task)) for task in tasks]
    judged = await replies(prompts, engine, chat, _sampling(options, 0.0))
    verdicts = ((REPLY.findall(reply) or ["NO"])[0].upper() for reply in judged)
    return [task for task, verdict in zip(tasks, verdicts, strict=True) if verdict == "YES"]


def reachable(tasks: Sequence[Problem], options: TaskOptions, chat: Chat) -> list[Problem]:
    """Tasks whose start either head of the critic finds neither too hard nor too easy; all without a critic.

    A task that the environment does not begin leaves.

    Raises:
        DataError: the environment begins none of them, or the critic leaves none.
        LlmrlError: it can begin nothing, as where its browser is not on this machine.
    """
    if options.critic is None or not tasks:
        return list(tasks)
    starts = wait(_starts(tasks, options))
    begun = [(task, start) for task, start in zip(tasks, starts, strict=True) if isinstance(start, Observation)]
    if not begun:
        name, error = name_of("env", build("env", options.env, "env")), starts[0]
        raise DataError(
            f"env {name}: it begins none of the {len(tasks)} new tasks; the first: {type(error).__name__}: {error}; "
            "expected the environment of the last phase, and tasks that it reads"
        )
    values = start_values(options.critic, [chat.prompt_ids(start.messages, start.tools) for _, start in begun])
    kept = [
        task
        for (task, _), own in zip(begun, values, strict=True)
        if within_reach(list(own.values()), options.low, options.high)
    ]
    if not kept:
        hard = sum(max(own.values()) < options.low for own in values)
        raise DataError(
            f"{options.critic}: of {len(begun)} new tasks none is within reach: {hard} have values below low "
            f"{options.low:g}, the others one above high {options.high:g}; widen these bounds, or raise variants"
        )
    return kept


async def _starts(tasks: Sequence[Problem], options: TaskOptions) -> list[Observation | Exception]:
    """First observation of each task's environment, or why it does not begin."""
    factory, environments = build("env", options.env, "env"), Environments()
    limits = RolloutOptions(max_open_envs=getattr(factory, "max_open_envs", 16))

    async def start(task: Problem) -> Observation | Exception:
        try:
            async with environments.open(factory, task, limits) as env:
                return await env.reset()
        except Exception as error:
            if isinstance(error, LlmrlError) and not isinstance(error, DataError):
                raise  # of this machine, not of the task
            log.warning("task %s: its environment did not begin: %s: %s", task.id, type(error).__name__, error)
            return error

    return list(await together(start(task) for task in tasks))


def write_tasks(options: TaskOptions, out: Path) -> dict[str, int]:
    """Write tasks as rows for data `jsonl`, in the order in which they were proposed.

    Returns:
        Counts: `failed`, `proposed`, `distinct`, `reachable`, `feasible`.
    Raises:
        DataError: nothing failed, nothing is left, or a file cannot be read or written.
        CheckpointError, EngineError: the critic, the model or the engine does not load.
    """
    known = list(build("data", options.data, "data").problems())
    lost = failed(known, Path(options.rollouts))
    tasks, counts = _made(options, lost, known)
    if not tasks:
        left = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise DataError(f"{options.rollouts}: no new task is left: {left}; raise variants")
    with opened(out) as file:
        for task in islice(tasks, options.count):
            file.write(json.dumps(problem_row(task), ensure_ascii=False) + "\n")
    return counts


def _made(
    options: TaskOptions, lost: Sequence[Problem], known: Sequence[Problem]
) -> tuple[Sequence[Problem], dict[str, int]]:
    """Tasks that pass every filter, and how many passed each."""
    with _asked(options) as (chat, engine):
        if options.proposer == "model" and engine is not None:
            new = wait(by_model(lost, options, engine, chat))
        else:
            new = list(by_seeds(lost, options))
        other = distinct(new, known, options.seed_column)
        near = reachable(other, options, chat)
        judged = wait(feasible(near, options, engine, chat)) if options.judge and engine is not None else near
    steps = {"failed": lost, "proposed": new, "distinct": other, "reachable": near, "feasible": judged}
    return judged, {name: len(tasks) for name, tasks in steps.items()}


@contextmanager
def _asked(options: TaskOptions) -> Iterator[tuple[Chat, Engine | None]]:
    """The model's chat, and an engine where it generates."""
    from llmrl.evaluation.run import EvalSetup, local_player

    if not options.asks:
        yield Chat(load_tokenizer(options.model)), None
        return
    with local_player(options.model, EvalSetup(engine=options.engine), options.seed, options.max_tokens) as player:
        yield player.chat, player.engine


def _sampling(options: TaskOptions, temperature: float) -> Sampling:
    return Sampling(temperature=temperature, max_tokens=options.max_tokens, seed=options.seed)


def _task(problem: Problem) -> str:
    """The text of a task: the last message of its user."""
    return str(problem.messages[-1]["content"])


def _site(problem: Problem, options: TaskOptions) -> str:
    return "" if options.site_column is None else str(problem.info.get(options.site_column, ""))


def _instructed(problem: Problem, text: str, name: str) -> Problem:
    """A problem with another instruction, whose answer nobody knows."""
    messages = [*problem.messages[:-1], {**problem.messages[-1], "content": text}]
    return replace(problem, id=name, messages=messages, answer="")


def _read_as(problem: Problem, seed_column: str) -> tuple[str, str]:
    words = re.sub(r"[^\w]+", " ", _task(problem).lower()).strip()
    return words, str(problem.info.get(seed_column, ""))
