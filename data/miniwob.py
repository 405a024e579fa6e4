"""Tasks of MiniWoB++ (arXiv 1802.08802) for environment `miniwob`: pages of a task by seed, and easier beginnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from llmrl.browser.miniwob.catalogue import TASKS, expand
from llmrl.browser.miniwob.plans import PLANNERS
from llmrl.browser.variants import Split, check_variants, levels_of, seeds_of
from llmrl.types import Problem


@dataclass(frozen=True, kw_only=True)
class MiniWobTasks:
    """`seeds` pages of each task, task by task in turn; train and test never share one."""

    tasks: Sequence[str] = field(default=("easy",), hash=False)  # names, kinds (click choose text form mail), easy, all
    seeds: int = 100  # pages of each task
    first: int = 0  # seed of the first page within the split
    split: Split = "train"
    levels: int = 1  # of tasks with a plan: at level l of n a field is filled beforehand with probability 1 - l/n

    def __post_init__(self) -> None:
        expand(self.tasks)
        check_variants(self.seeds, self.first, self.levels)

    def problems(self) -> Iterator[Problem]:
        """Yield problems with `task`, `kind`, `seed`, `progress` and `level` in their info; the goal is on the page."""
        for seed in seeds_of(self.split, self.first, self.seeds):
            for task in expand(self.tasks):
                for variant in levels_of(self.levels, task in PLANNERS):
                    info = {"task": task, "kind": TASKS[task], "seed": seed}
                    yield Problem(
                        id=f"miniwob/{task}/{seed}{variant.suffix}",
                        messages=[{"role": "user", "content": f"Solve page {seed} of MiniWoB++ task {task}."}],
                        info=info | {"progress": variant.progress, "level": variant.level},
                    )


plugin = MiniWobTasks
