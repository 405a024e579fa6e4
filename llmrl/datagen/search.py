"""Search the answers of a dataset's problems with a reference at hand, store the trees, and make rows of them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from llmrl.aio import wait
from llmrl.clients.retry import together
from llmrl.datagen.step_labels import opened
from llmrl.errors import DataError
from llmrl.evaluation.evaluate import seed_of
from llmrl.plugins import build
from llmrl.reasoning.export import preference_rows, sft_rows, stepwise_rows
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.records import node_rows, read_trees
from llmrl.reasoning.searcher import Searched, Searcher, build_strategy
from llmrl.reasoning.tree import SearchTree
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Problem, Sampling

ROWS: Mapping[str, Callable[[SearchTree], Iterator[dict[str, Any]]]] = {
    "sft": sft_rows,
    "stepwise": stepwise_rows,
    "preference": preference_rows,
}
IN_FLIGHT = 64  # searches at once; their requests share the engine's batches


@dataclass(frozen=True, kw_only=True)
class TreeSearch:
    """Options of a search over a dataset."""

    search: Mapping[str, Any] | str  # a strategy: plan_mcts:100
    reward: Mapping[str, Any] | str  # with verdicts, of whole answers against the reference
    judge: Mapping[str, Any] | str | None = None  # of beginnings: a value or process model; None: outcomes alone
    trees: int = 1  # of each problem
    tokens: int | None = None  # that a search may generate
    sampling: Sampling = field(default_factory=Sampling)  # of an answer
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trees < 1:
            raise ValueError(f"trees {self.trees}: expected at least 1")


def write_trees(
    model: str,
    data: Mapping[str, Any] | str,
    out: Path,
    options: TreeSearch,
    *,
    engine: Mapping[str, Any] | str = "vllm",
    limit: int | None = None,
) -> dict[str, int]:
    """Write the trees of a dataset's problems to a .jsonl file, a line for each node, in the order of the problems.

    Returns:
        Counts: `trees`, `solved` (with a right answer), `nodes`, `answers`, `malformed`, `too_deep`, `duplicates` (of
        texts, left out), `tokens`.
    Raises:
        DataError: the file is there already or cannot be written.
        RecipeError, CheckpointError, EngineError: no such plug-in; the model or the engine does not load.
    """
    if out.exists():
        raise DataError(f"{out}: is there already; choose another --out, or remove it")
    return wait(_write(model, data, out, options, engine, limit))


async def _write(
    model: str, data: Any, out: Path, options: TreeSearch, engine: Any, limit: int | None
) -> dict[str, int]:
    from llmrl.evaluation.run import EvalSetup, local_player

    problems = list(islice(build("data", data, "--data").problems(), limit))
    strategy, setup = build_strategy(options.search), EvalSetup(engine=engine)
    room = options.sampling.max_tokens * getattr(strategy, "contexts", 1)
    counts: Counter[str] = Counter()
    with (
        GradingPool(setup.reward_workers, setup.reward_timeout_s) as pool,
        local_player(model, setup, options.seed, room) as player,
        opened(out) as file,
    ):
        judge = options.judge and as_group_reward(build("reward", options.judge, "--judge"), pool)
        searcher = Searcher(
            engine=player.engine,
            chat=player.chat,
            strategy=strategy,
            judge=AnswerJudge(judge) if judge else None,
            budget=options.tokens,
            max_model_len=player.max_model_len,
            gold=as_group_reward(build("reward", options.reward, "--reward"), pool),
        )
        slots, lines = asyncio.Semaphore(IN_FLIGHT), _InOrder(file)

        async def play(place: int, problem: Problem, number: int) -> None:
            async with slots:
                sampling = replace(options.sampling, seed=seed_of(options.seed, problem.id, number))
                found = await searcher.play(problem, sampling)
            rows = node_rows(found.tree, f"{problem.id}/{number}")
            lines.write(place, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
            _count(found, counts)

        wanted = ((problem, number) for problem in problems for number in range(options.trees))
        await together(play(place, problem, number) for place, (problem, number) in enumerate(wanted))
    return dict(counts)


class _InOrder:
    """Texts that come in any order, written to a file by their numbers: equal searches make equal files."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._next = 0
        self._early: dict[int, str] = {}

    def write(self, number: int, text: str) -> None:
        self._early[number] = text
        while self._next in self._early:
            self._file.write(self._early.pop(self._next))
            self._next += 1
        self._file.flush()


def _count(found: Searched, counts: Counter[str]) -> None:
    outcomes = Counter(node.outcome for node in found.tree.nodes)
    counts.update(
        trees=1,
        solved=outcomes["correct"] > 0,
        nodes=len(found.tree.nodes),
        answers=len(list(found.tree.leaves())),
        malformed=outcomes["malformed"],
        too_deep=outcomes["too_deep"],
        duplicates=found.tree.pruned,
        tokens=found.tokens,
    )


def write_rows(trees: Path, kind: str, out: Path) -> int:
    """Write the rows of a file of trees; returns their number.

    Raises:
        DataError: the file of trees cannot be read, or the other is there already or cannot be written.
    """
    if out.exists():
        raise DataError(f"{out}: is there already; choose another --out, or remove it")
    if not trees.is_file():
        raise DataError(f"{trees}: no such file; expected trees that `llmrl data search` wrote")
    count = 0
    with opened(out) as file:
        for tree_id, tree in read_trees(trees):
            for row in ROWS[kind](tree):
                file.write(json.dumps(row | {"tree_id": tree_id}, ensure_ascii=False) + "\n")
                count += 1
    return count
