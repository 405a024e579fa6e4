"""Kinds of stages: the recipe that each takes, the outputs that it leaves, and the work between them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl import recipe as recipes
from llmrl.datagen.flywheel import KeepOptions, LabelOptions, write_kept, write_labelled
from llmrl.datagen.search import ROWS, TreeSearch, write_rows, write_trees
from llmrl.datagen.subgoals import ProposalOptions, write_proposals
from llmrl.datagen.tasks import TaskOptions, write_tasks
from llmrl.errors import RecipeError
from llmrl.evaluation.run import EvalSetup, Plan
from llmrl.plugins import build, construct, find
from llmrl.reasoning.searcher import build_strategy
from llmrl.reward_models.recipe import RewardRecipe
from llmrl.run_folder.ownership import traces

if TYPE_CHECKING:
    from llmrl.protocols import Column, Update
    from llmrl.recipe import Recipe
    from llmrl.samples import Sample

Sections = Mapping[str, Any]
TREES = "trees.jsonl"
TASKS = "tasks.jsonl"
REJECTED = "rejected.jsonl"


@dataclass(frozen=True)
class Kind:
    """A kind of stage. `run` goes on in a folder that holds an unfinished run of the same recipe."""

    outputs: Mapping[str, str]  # their paths below the stage's folder, by name
    read: Callable[[Sections, Path, str], Any]  # (sections, folder, where the message of an error starts)
    run: Callable[[Any, Path, bool], None]  # (what `read` gave, folder, quiet)
    alone: bool = False  # it runs in the first process, and the others wait


@dataclass(frozen=True)
class Collect:
    """An algorithm from which nothing learns: the episodes are played, scored and logged."""

    def needs(self) -> frozenset[Column]:
        return frozenset()

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        return list(samples)

    def updates(self, step: int) -> Sequence[Update]:
        return ()


@dataclass(frozen=True, kw_only=True)
class SftRecipe:
    """Every setting of a supervised fine-tuning; see `llmrl.train.sft.sft`."""

    model: str
    data: str | Mapping[str, Any]  # rows with prompt and completion in a file, or a data plug-in with answers
    max_steps: int
    learning_rate: float = 2e-5
    batch_size: int = 16  # rows of an optimiser step, over all processes
    warmup_steps: int = 0
    max_length: int | None = None
    bf16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, bound in {"max_steps": 1, "batch_size": 1, "warmup_steps": 0, "learning_rate": 0}.items():
            if not bound <= getattr(self, name) < inf:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least {bound}")
        if not isinstance(self.data, str):
            build("data", self.data, "data")

    def rows(self) -> list[dict[str, Any]]:
        """Pairs of prompt and completion.

        Raises:
            DataError: the file cannot be read.
        """
        from llmrl.datafiles.rows import file_rows

        if isinstance(self.data, str):
            return [dict(row.values) for row in file_rows(Path(self.data))]
        problems = build("data", self.data, "data").problems()
        return [
            {"prompt": list(each.messages), "completion": [{"role": "assistant", "content": str(each.answer)}]}
            for each in problems
        ]


@dataclass(frozen=True, kw_only=True)
class EvalRecipe:
    """Every setting of an evaluation; see `llmrl eval`."""

    model: str
    benchmarks: Sequence[str]
    plan: Plan = field(default_factory=Plan)
    setup: EvalSetup = field(default_factory=EvalSetup)

    def __post_init__(self) -> None:
        if not self.benchmarks:
            raise ValueError("benchmarks: expected names, such as [gsm8k]")
        for name in self.benchmarks:
            find("benchmark", name, "benchmarks")


@dataclass(frozen=True, kw_only=True)
class SearchRecipe(TreeSearch):
    """Every setting of a search over a dataset; see `llmrl data search`."""

    model: str
    data: Mapping[str, Any] | str
    engine: Mapping[str, Any] | str = "vllm"
    limit: int | None = None  # the first problems only

    def __post_init__(self) -> None:
        super().__post_init__()
        build_strategy(self.search)
        build("data", self.data, "data")
        build("reward", self.reward, "reward")
        if self.judge is not None:
            build("reward", self.judge, "judge")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit {self.limit}: expected at least 1, or none for all problems")


def placed(sections: Sections, output_dir: Path, run_name: str) -> dict[str, Any]:
    """Sections that write to a folder."""
    where = {"output_dir": str(output_dir), "run_name": run_name}
    train = sections.get("train", {})
    return {**sections, "train": {**train, **where} if isinstance(train, Mapping) else train}


def _read_train(sections: Sections, folder: Path, where: str) -> Recipe:
    return recipes.parse(placed(sections, folder.parent, folder.name), where)


def _read_collect(sections: Sections, folder: Path, where: str) -> Recipe:
    if "algorithm" in sections:
        raise RecipeError(f"{where}: algorithm: nothing learns in a stage that collects; leave it out, or use `train`")
    made = _read_train({**sections, "algorithm": {"name": f"{__name__}:{Collect.__name__}"}}, folder, where)
    if not made.source.plays:
        raise RecipeError(f"{where}: source: it generates nothing to collect; expected one that does, such as online")
    return made


def _train(recipe: Recipe, folder: Path, quiet: bool) -> None:
    from llmrl.run_folder.progress import Progress
    from llmrl.train.epochs import in_steps
    from llmrl.train.loop import train
    from llmrl.train.run import Run
    from llmrl.train.stopping import Stopping

    recipe = in_steps(recipe)
    with (
        Stopping() as stopping,
        Progress(recipe.train.max_steps, quiet=quiet) as progress,
        Run(
            recipe,
            resume=bool(traces(folder)),
            stopping=stopping,
            on_step=progress.step,
            on_sample=progress.sample,
        ) as run,
    ):
        train(run)


def _read_sft(sections: Sections, _folder: Path, where: str) -> SftRecipe:
    made: SftRecipe = construct(SftRecipe, sections, f"{where}:")
    return made


def _sft(recipe: SftRecipe, folder: Path, _quiet: bool) -> None:
    from llmrl.train.sft import sft

    options = {key: value for key, value in asdict(recipe).items() if key not in ("model", "data")}
    sft(recipe.model, recipe.rows(), folder / "final", **options)


def _read_reward_model(sections: Sections, folder: Path, where: str) -> RewardRecipe:
    made: RewardRecipe = construct(RewardRecipe, placed(sections, folder, "final"), f"{where}:")
    return made


def _reward_model(recipe: RewardRecipe, _folder: Path, _quiet: bool) -> None:
    from llmrl.train.reward_model.run import train

    train(recipe)


def _read_eval(sections: Sections, _folder: Path, where: str) -> EvalRecipe:
    made: EvalRecipe = construct(EvalRecipe, sections, f"{where}:")
    return made


def _eval(recipe: EvalRecipe, folder: Path, quiet: bool) -> None:
    from llmrl.evaluation.run import run

    run(recipe.model, recipe.benchmarks, folder, recipe.plan, recipe.setup, quiet=quiet)


def _read_search(sections: Sections, _folder: Path, where: str) -> SearchRecipe:
    made: SearchRecipe = construct(SearchRecipe, sections, f"{where}:")
    return made


def _search(recipe: SearchRecipe, folder: Path, _quiet: bool) -> None:
    trees = folder / TREES
    write_trees(recipe.model, recipe.data, trees, recipe, engine=recipe.engine, limit=recipe.limit)
    for kind in ROWS:
        write_rows(trees, kind, folder / f"{kind}.jsonl")


def _read_tasks(sections: Sections, _folder: Path, where: str) -> TaskOptions:
    made: TaskOptions = construct(TaskOptions, sections, f"{where}:")
    return made


def _tasks(options: TaskOptions, folder: Path, _quiet: bool) -> None:
    _print("tasks", write_tasks(options, folder / TASKS))


def _read_label(sections: Sections, _folder: Path, where: str) -> LabelOptions:
    made: LabelOptions = construct(LabelOptions, sections, f"{where}:")
    return made


def _label(options: LabelOptions, folder: Path, _quiet: bool) -> None:
    _print("label", write_labelled(options, folder / TASKS))


def _read_keep(sections: Sections, _folder: Path, where: str) -> KeepOptions:
    made: KeepOptions = construct(KeepOptions, sections, f"{where}:")
    return made


def _keep(options: KeepOptions, folder: Path, _quiet: bool) -> None:
    _print("keep", write_kept(options, folder))


def _read_subgoals(sections: Sections, _folder: Path, where: str) -> ProposalOptions:
    made: ProposalOptions = construct(ProposalOptions, sections, f"{where}:")
    return made


def _subgoals(options: ProposalOptions, folder: Path, _quiet: bool) -> None:
    _print("subgoals", write_proposals(options, folder / TASKS, folder / REJECTED))


def _print(stage: str, counts: Mapping[str, int]) -> None:
    print(f"{stage}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))


def clear_unfinished(kind: str, folder: Path) -> None:
    """Remove what a kill left of a stage that begins again: a search, or a trainer that writes its model at the end."""
    if kind in ("sft", "reward_model"):
        shutil.rmtree(folder / "final", ignore_errors=True)
    if kind in ("search", "tasks", "label", "keep", "subgoals"):
        for path in KINDS[kind].outputs.values():
            (folder / path).unlink(missing_ok=True)


KINDS: Mapping[str, Kind] = {
    "sft": Kind({"final": "final"}, _read_sft, _sft),
    "collect": Kind({"rollouts": "rollouts.jsonl"}, _read_collect, _train),
    "train": Kind({"final": "final", "rollouts": "rollouts.jsonl"}, _read_train, _train),
    "search": Kind({"trees": TREES, **{kind: f"{kind}.jsonl" for kind in ROWS}}, _read_search, _search, alone=True),
    "tasks": Kind({"tasks": TASKS}, _read_tasks, _tasks, alone=True),
    "label": Kind({"tasks": TASKS}, _read_label, _label, alone=True),
    "keep": Kind({name: f"{name}.jsonl" for name in ("tasks", "agent", "generator")}, _read_keep, _keep, alone=True),
    "subgoals": Kind({"tasks": TASKS, "rejected": REJECTED}, _read_subgoals, _subgoals, alone=True),
    "reward_model": Kind({"final": "final"}, _read_reward_model, _reward_model),
    "eval": Kind({"results": "results.json"}, _read_eval, _eval, alone=True),
}
"""Kinds of stages, by the key that a recipe names them with."""
