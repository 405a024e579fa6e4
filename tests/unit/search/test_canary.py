"""No strategy can reach a reference answer: neither through what it is given nor through what its judge is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

import pytest

from llmrl import plugins
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.policy import SearchPolicy
from llmrl.reasoning.searcher import Searcher
from llmrl.reasoning.tree import SearchTree, TreeNode
from llmrl.types import Sampling
from tests.unit.search.worlds import CHAT, PROBLEM, TextJudge, engine


def strings(value: Any, seen: set[int] | None = None) -> Iterable[str]:
    """Texts that can be reached from a value: by attributes, slots, keys, members and closures."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, type | ModuleType):
        return
    seen.add(id(value))
    if isinstance(value, str):
        yield value
        return
    inner: list[Any] = []
    if isinstance(value, dict):
        inner += [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inner += value
    inner += vars(value).values() if hasattr(value, "__dict__") else []
    inner += [getattr(value, slot) for cls in type(value).__mro__ for slot in getattr(cls, "__slots__", ())
              if hasattr(value, slot)]  # fmt: skip
    if isinstance(value, FunctionType):
        inner += [cell.cell_contents for cell in value.__closure__ or ()]
    if hasattr(value, "__self__"):
        inner.append(value.__self__)
    for one in inner:
        yield from strings(one, seen)


@dataclass(frozen=True)
class Spy:
    """Looks at everything that a strategy is given, before and after it searches."""

    strategy: Any
    found: list[str] = field(default_factory=list)

    async def search(self, tree: SearchTree, policy: SearchPolicy, judge: AnswerJudge) -> TreeNode:
        self.found.extend(strings((tree, policy, judge)))
        chosen: TreeNode = await self.strategy.search(tree, policy, judge)
        self.found.extend(strings((tree, policy, judge)))
        return chosen


@pytest.mark.parametrize("name", plugins.names("search"))
def test_no_gold_is_reachable(name: str) -> None:
    judge = TextJudge(lambda text: 0.5)
    spy = Spy(plugins.build("search", name))
    searcher = Searcher(engine=engine(["1\n", "2"]), chat=CHAT, strategy=spy, judge=AnswerJudge(judge))
    found = asyncio.run(searcher.play(PROBLEM, Sampling(seed=0, max_tokens=32)))
    assert "2+2?" in spy.found, "the walk reaches the question"
    assert not [text for text in spy.found if "CANARY" in text]
    assert all(one.problem.answer == "" and not one.problem.info for one in judge.shown)
    assert found.trajectory.problem is PROBLEM


def test_the_walk_would_find_it() -> None:
    tree = SearchTree(PROBLEM, [1], CHAT.text)
    assert {"CANARY-4", "CANARY-info"} <= set(strings(tree))
