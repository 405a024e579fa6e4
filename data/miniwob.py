"""Tasks of MiniWoB++ (arXiv 1802.08802) for environment `miniwob`: pages of a task by seed, and easier beginnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from llmrl.browser.miniwob.catalogue import SPLIT, TASKS, expand
from llmrl.browser.miniwob.plans import PLANNERS
from llmrl.types import Problem


@dataclass(frozen=True, kw_only=True)
class MiniWobTasks:
    """`seeds` pages of each task, task by task in turn; train and test never share one."""

    tasks: Sequence[str] = field(default=("easy",), hash=False)  # names, kinds (click choose text form mail), easy, all
    seeds: int = 100  # pages of each task
    first: int = 0  # seed of the first page within the split
    split: Literal["train", "test"] = "train"
    levels: int = 1  # of tasks with a plan: at level l of n a field is filled beforehand with probability 1 - l/n

    def __post_init__(self) -> None:
        expand(self.tasks)
        if self.seeds < 1 or self.first < 0 or self.first + self.seeds > SPLIT or self.levels < 1:
            raise ValueError(f"seeds and levels must be at least 1, first at least 0, first + seeds at most {SPLIT}")

    def problems(self) -> Iterator[Problem]:
        """Yield problems with `task`, `kind`, `seed`, `progress` and `level` in their info; the goal is on the page."""
        start = self.first + (SPLIT if self.split == "test" else 0)
        for seed in range(start, start + self.seeds):
            for task in expand(self.tasks):
                for level in range(1 if task in PLANNERS else self.levels, self.levels + 1):
                    part = f"/{level}of{self.levels}" if self.levels > 1 else ""
                    info = {"task": task, "kind": TASKS[task], "seed": seed}
                    yield Problem(
                        id=f"miniwob/{task}/{seed}{part}",
                        messages=[{"role": "user", "content": f"Solve page {seed} of MiniWoB++ task {task}."}],
                        info=info | {"progress": level / self.levels, "level": level},
                    )


plugin = MiniWobTasks
