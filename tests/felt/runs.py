"""Options that decide what is played, measured and kept: a run of two steps whose engine answers by a script."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from llmrl.engines.scripted import Scripted
from llmrl.errors import DataError, RewardError, TrainingError
from llmrl.train.learner import OptimStep
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.types import Message, Observation, Problem, Sampling
from tests.felt.probe import Options, Probe
from tests.felt.steps import model, recipe

SMALL: Options = {
    "num_generations": 2,
    "prompts_per_step": 2,
    "max_completion_length": 4,
    "max_prompt_length": 16,
    "reward_workers": 1,
    "max_error_share": 1.0,
}
LEARNS: Options = {"max_steps": 2, "learning_rate": 1e-2, "report_to": "none", "output_dir": "runs", "save_steps": 0}
GRPO: Options = {"name": "grpo"}
UNTIMED = ("time/", "step_time", "perf/", "sync/", "reward_latency/")


def reply(prompt: str, sampling: Sampling) -> str:
    """Digits that the seed decides: one to five of them."""
    seed = sampling.seed or 0
    return str(seed)[: 1 + seed % 5]


@dataclass(frozen=True)
class Seeded:
    """An engine that answers by `reply`."""

    def start(self, model: str, **facts: Any) -> Any:
        return Scripted(replies=reply).start(model, **facts)


@dataclass(frozen=True)
class Slow:
    """Each answer is awaited for a while; the first observation tells where the environment runs."""

    seconds: float = 0.0
    turns: int = 2

    def make(self, problem: Problem) -> SlowEpisode:
        return SlowEpisode(self, problem)


OPEN: list[int] = []
"""Environments that are open, of this process."""


@dataclass
class SlowEpisode:
    options: Slow
    problem: Problem
    left: int = field(default=0)
    most: int = 0

    async def reset(self) -> Observation:
        OPEN.append(1)
        self.left = self.options.turns
        await asyncio.sleep(0.01)
        self.most = len(OPEN)
        return Observation(messages=self.problem.messages)

    async def step(self, message: Message) -> Observation:
        await asyncio.sleep(self.options.seconds)
        self.left -= 1
        place = {"main": float(threading.current_thread() is threading.main_thread()), "most": float(self.most)}
        said = [{"role": "user", "content": "go on"}]
        return Observation(messages=said, done=not self.left, metrics=place if not self.left else {})

    async def close(self) -> None:
        if OPEN:
            OPEN.pop()


def played(**sections: Any) -> Any:
    """The files of a run, less what is of time and place, and the calls of its engine."""
    root = Path(mkdtemp(prefix="felt-run-"))
    before = Path.cwd()
    os.chdir(root)
    try:
        base = {"rollout": SMALL, "train": LEARNS, "algorithm": GRPO, "engine": {"name": f"{__name__}:Seeded"}}
        made = recipe(**{**base, **sections})
        with Run(made) as run:
            run.sync._engine = None  # a script has no weights
            run.finish = lambda: None  # type: ignore[method-assign]  # the last export and its curves say nothing more
            train(run)
            engine = run.source.scheduler.player.engine  # type: ignore[attr-defined]
            calls = sorted((ids, repr(sampling)) for ids, sampling in engine.calls)
            told = {"room": engine.max_model_len, "grace": run.stopping.grace_s, "skips": _skips(run)}
        return told, calls, dict(_files(root))
    finally:
        os.chdir(before)
        shutil.rmtree(root)
        OPEN.clear()


def _skips(run: Run) -> int:
    """Updates in a row that are not finite, until the run stops."""
    skipped = OptimStep("policy", {"loss": nan}, False, 1, 1)
    for count in range(1, 99):
        try:
            run.guard(9, [], skipped)
        except TrainingError:
            return count
    return 99


def _files(root: Path) -> Any:
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.endswith(".jsonl"):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            yield name, [{k: v for k, v in line.items() if not k.startswith(UNTIMED)} for line in lines]
        elif path.is_file() and "tfevents" not in name:
            yield name, None
        elif "tfevents" in name:
            yield str(path.parent.relative_to(root)), ("events", b"text_summary" in path.read_bytes())


def _rollout(base: Options, values: Options, **sections: Any) -> Probe:
    """A probe of rollout options in a run of a step with these sections; a refusal is a result."""

    def use(options: Any) -> Any:
        try:
            return played(rollout=vars(options), train={**LEARNS, "max_steps": 1}, **sections)
        except (DataError, RewardError) as error:
            return type(error).__name__

    return Probe(use=use, base=base, values=values, only=True)


def _rollouts() -> list[Probe]:
    slow = {"name": f"{__name__}:Slow", "turns": 2}
    two = {**SMALL, "max_turns": 2, "max_prompt_length": 40}
    searched = {**SMALL, "search": {"name": "best_of_n", "n": 2}, "judge": {"name": "length"}}
    sampling = {"temperature": [0.5], "top_p": [0.5], "top_k": [5], "min_p": [0.1]}
    sizes = {"num_generations": [3], "prompts_per_step": [1], "max_completion_length": [2]}
    logs = {"log_completions": [0.0], "log_tokens_mb": [0.0], "log_trainer": [True]}
    found = {
        "search": [{"name": "best_of_n", "n": 3}],
        "judge": [{"name": "length", "unit": "words"}],
        "search_tokens": [5],
    }
    bc, long = {"name": "bc"}, {"name": "arithmetic", "high": 12}
    late = {"max_turns": [1], "max_reply_length": [100], "env_timeout_s": [0.05], "episode_timeout_s": [0.05]}
    return [
        _rollout(SMALL, {**sampling, **sizes, **logs}, algorithm=bc),
        _rollout({**SMALL, "max_prompt_length": 7}, {"drop_long_prompts": [True]}, data=long),
        _rollout({**SMALL, "drop_long_prompts": True}, {"max_prompt_length": [7]}, data=long),
        _rollout(two, {"max_open_envs": [1], "env_isolation": ["thread"], "overlong_turns": ["answer"]}, env=slow),
        _rollout(two, late, env={**slow, "seconds": 0.2}),
        _rollout(SMALL, {"reward_timeout_s": [0.05]}, reward={"name": "tests.felt.scorers:slow"}),
        _rollout(
            {**SMALL, "reward_timeout_s": 0.05}, {"max_error_share": [0.0]}, reward={"name": "tests.felt.scorers:slow"}
        ),
        _rollout(searched, found, algorithm=bc),
    ]


def _trains() -> list[Probe]:
    def use(options: Any) -> Any:
        return played(train=vars(options))

    places: Options = {"output_dir": ["other"], "run_name": ["mine"], "report_to": ["tensorboard"]}
    decides: Options = {"warmup_rollouts": [4], "seed": [1], "save_steps": [1], "normalize_rewards": [True]}
    bounds: Options = {"max_nonfinite_updates": [2], "stop_grace_s": [9.0]}
    return [
        Probe(use=use, base=LEARNS, values={**places, **decides, **bounds}, only=True),
        Probe(use=use, base={**LEARNS, "save_steps": 1}, values={"save_total_limit": [1]}, only=True),
        Probe(use=use, base={**LEARNS, "report_to": "tensorboard"}, values={"table_rows": [0]}, only=True),
    ]


def probes() -> dict[str, list[Probe]]:
    """Probes of the sections that a run reads."""
    judged = {"benchmarks": ["arithmetic"], "every": 1, "limit": 2}
    audited = {"reward": {"name": "numeric"}, "share": 0.9}
    longer = {**SMALL, "max_prompt_length": 200}
    return {
        "RolloutOptions": _rollouts(),
        "TrainOptions": _trains(),
        "EvalOptions": [
            Probe(
                use=lambda options: played(eval=vars(options), rollout=longer),
                base=judged,
                values={
                    "every": [2],
                    "on_start": [True],
                    "benchmarks": [["constrained_text"]],
                    "limit": [1],
                    "samples": [2],
                    "max_completion_length": [1],
                    "data": [{"name": "arithmetic", "high": 2}],
                },
                only=True,
            )
        ],
        "AuditOptions": [
            Probe(
                use=lambda options: played(audit=vars(options)),
                base=audited,
                values={"reward": [None], "every": [2], "share": [0.3]},
                only=True,
            )
        ],
        "ModelOptions": [
            Probe(
                use=lambda options: played(model=vars(options), rollout=longer),
                base={"policy": model()},
                values={"system_prompt": ["sum"]},
                only=True,
            )
        ],
    }
