"""Tasks of reasoning-gym: puzzles, algebra, logic, games, made on the spot, each with a verifier of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmrl.datafiles.gym_tasks import open_task, tasks
from llmrl.datafiles.rows import ask
from llmrl.recipe.ranges import Count, Seed
from llmrl.types import Problem

INSTRUCTION = "Give your final answer between <answer> and </answer>."


@dataclass(frozen=True, kw_only=True)
class ReasoningGym:
    """`count` problems of each task, task by task in turn; for reward `reasoning_gym`. Another seed, other problems."""

    tasks: Sequence[str] = field(default=(), hash=False)  # (): all that are used; docs/data.md says which are not
    count: Count = 100  # problems of each task
    seed: Seed = 0  # of the problems; small tasks may give a problem under two seeds
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)  # options by task
    instruction: str = INSTRUCTION  # a line after the question

    def __post_init__(self) -> None:
        unused = set(self.config) - set(self.tasks) if self.tasks else set()
        if unused:
            raise ValueError(f"config of {', '.join(sorted(unused))}: not among tasks")

    def problems(self) -> Iterator[Problem]:
        """Yield problems with `task`, `entry` and `config` in their `info`.

        Raises:
            LlmrlError: reasoning-gym is not installed.
            DataError: a task that is not used, or options that it refuses.
        """
        opened = {
            name: open_task(name, self.count, self.seed, self.config.get(name, {})) for name in self.tasks or tasks()
        }
        for number in range(self.count):
            for name, task in opened.items():
                entry = json.loads(json.dumps(task[number], default=str))  # as it is behind a wire; some hold fractions
                yield Problem(
                    id=f"reasoning_gym/{name}/{self.seed}/{number}",
                    messages=ask(entry["question"], self.instruction),
                    answer=str(entry["answer"]),
                    info={"task": name, "entry": entry, "config": dict(self.config.get(name, {}))},
                )


plugin = ReasoningGym
