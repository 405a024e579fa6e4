"""Options that decide what is played, measured and kept: a run of two steps whose engine answers by a script."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from llmrl.engines.scripted import Scripted
from llmrl.errors import TrainingError
from llmrl.recipe import AuditOptions, EvalOptions, ModelOptions, OpponentOptions, RolloutOptions, TrainOptions
from llmrl.train.learner import OptimStep
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.types import Message, Observation, Problem, Sampling, Score
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
UNTIMED = ("time/", "step_time", "perf/", "sync/")


def reply(prompt: str, sampling: Sampling) -> str:
    """Digits that the seed decides: one to five of them."""
    seed = sampling.seed or 0
    return str(seed)[: 1 + seed % 5]


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


def slow_reward(problem: Problem, text: str) -> Score:
    """A score after a while."""
    import time

    time.sleep(0.2)
    return Score(1.0)


def played(**sections: Any) -> Any:
    """The files of a run, less what is of time and place, and the calls of its engine."""
    root = Path(mkdtemp(prefix="felt-run-"))
    before = Path.cwd()
    os.chdir(root)
    try:
        base = {"rollout": SMALL, "train": LEARNS, "algorithm": GRPO}
        made = recipe(**{name: {**base.get(name, {}), **given} for name, given in {**base, **sections}.items()})
        made = replace(made, engine=Scripted(replies=reply))
        with Run(made) as run:
            run.sync._engine = None  # a script has no weights
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
            yield str(path.parent.relative_to(root)), "events"


def probes() -> dict[str, list[Probe]]:
    slow = {"name": f"{__name__}:Slow", "turns": 2}
    lengthy = {"template": "{a}{op}{b}=" + "0" * 12}
    searched = {**SMALL, "search": {"name": "best_of_n", "n": 2}, "judge": {"name": "length"}}
    two = {**SMALL, "max_turns": 2, "max_prompt_length": 40, "num_generations": 4}

    def rollout(base: Options, values: Any = None, **sections: Any) -> Probe:
        return Probe(
            use=lambda options: played(rollout=vars(options), **sections), base=base, values={**idle, **(values or {})}
        )

    idle = {name: [] for name in ("opponents", "search", "judge", "search_tokens", "reward_workers", "max_prompt_length")}
    waits = {name: [] for name in ("env_timeout_s", "episode_timeout_s", "reward_timeout_s", "max_open_envs")}
    waits |= {"env_isolation": [], "max_turns": [], "max_reply_length": [], "overlong_turns": [], "log_tokens_mb": [0]}
    waits |= {"log_completions": [0.0], "max_error_share": []}
    return {
        "RolloutOptions": [
            rollout(SMALL, {**waits, "drop_long_prompts": [], "top_p": [0.5], "temperature": [0.5]}),
            rollout(SMALL | {"max_prompt_length": 14, "drop_long_prompts": True}, {"max_prompt_length": [20]}, data={"operators": "+*", "high": 12}),
            rollout(two, {"max_open_envs": [1], "env_isolation": ["thread"]}, env=slow),
            rollout(two | {"env_timeout_s": 9.0}, {"env_timeout_s": [0.1], "episode_timeout_s": [0.1]}, env={**slow, "seconds": 0.3}),
            rollout(SMALL, {"reward_timeout_s": [0.1]}, reward={"name": f"{__name__}:slow_reward"}),
            rollout(searched, {"search": [{"name": "best_of_n", "n": 3}], "judge": [{"name": "numeric"}], "search_tokens": [5]}, algorithm={"name": "bc"}),
        ],
        "TrainOptions": [
            Probe(
                use=lambda options: played(train=vars(options)),
                base=LEARNS,
                values={
                    "warmup_rollouts": [4],
                    "output_dir": ["other"],
                    "run_name": ["mine"],
                    "report_to": ["tensorboard"],
                    "save_steps": [1],
                    "seed": [1],
                },
            ),
            Probe(use=lambda options: played(train=vars(options)), base={**LEARNS, "save_steps": 1}, values={"save_total_limit": [1]}),
        ],
        "EvalOptions": [
            Probe(
                use=lambda options: played(eval=vars(options)),
                base={"benchmarks": ["arithmetic"], "every": 1, "limit": 2},
                values={"every": [2], "benchmarks": [[]], "limit": [1]},
            )
        ],
        "AuditOptions": [
            Probe(
                use=lambda options: played(audit=vars(options)),
                base={"reward": {"name": "numeric"}},
                values={"reward": [None], "every": [2], "share": [0.9], "window": []},
            )
        ],
        "ModelOptions": [
            Probe(
                use=lambda options: played(model=vars(options), rollout={**SMALL, "max_prompt_length": 40}),
                base={"policy": model()},
                values={"system_prompt": ["sum"], "chat_template_kwargs": [{"add_generation_prompt": False}]},
            )
        ],
        "OpponentOptions": [],
    }


