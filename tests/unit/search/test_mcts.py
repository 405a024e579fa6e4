"""Tree search: the trace of the specification, optima against exhaustive search, limits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import log
from random import Random
from typing import Any

import pytest

from llmrl.errors import RewardError
from llmrl.reasoning.layout import StepLayout
from llmrl.reasoning.mcts import best_answer, plan_mcts
from llmrl.reasoning.tree import SearchTree, TreeNode
from llmrl.search.plan_mcts import PlanMcts
from llmrl.search.x1_mcts import X1Mcts
from llmrl.types import Completion
from tests.unit.search.worlds import CHAT, PROBLEM, Letters, engine, search, word_of

# cpl_mcts_trace: of each node its value and its children with prior and outcome (None: it goes on)
SCRIPT: dict[str, tuple[float, list[tuple[str, float, float | None]]]] = {
    "0": (0.1, [("A", 0.6, None), ("B", 0.4, None), ("C", 0.2, -1.0)]),
    "A": (0.4, [("A1", 0.5, 1.0), ("A2", 0.5, None)]),
    "A2": (-0.5, [("A2a", 0.9, -1.0)]),
    "B": (0.2, [("B1", 0.8, 1.0)]),
}


class Script:
    """The tree of the case; the text of a node is its tag."""

    def __init__(self) -> None:
        self.tree = SearchTree(PROBLEM, [1], CHAT.text)
        self.tags = {0: "0"}
        self.outcomes: dict[int, float] = {}
        self.order: list[str] = []

    async def expand(self, node: TreeNode, iteration: int) -> list[TreeNode]:
        tag = self.tags[node.id]
        self.order.append(tag)
        made = []
        for child, prior, outcome in SCRIPT[tag][1]:
            completion = Completion(token_ids=[70], logprobs=[log(prior)], finish="stop", version=0)
            kind: Any = "step" if outcome is None else "solution"
            made.append(self.tree.add(node, completion, kind, terminal=outcome is not None, created=iteration))
            self.tags[made[-1].id] = child
            if outcome is not None:
                self.outcomes[made[-1].id] = outcome
        return made

    async def evaluate(self, nodes: Sequence[TreeNode]) -> list[float]:
        return [self.outcomes.get(n.id, SCRIPT.get(self.tags[n.id], (0.0,))[0]) for n in nodes]


def test_the_trace_of_the_case() -> None:
    script = Script()
    asyncio.run(plan_mcts(script.tree, script.expand, script.evaluate, iterations=4, c_puct=1.5, draw=Random(0)))
    assert script.order == ["0", "A", "A2", "B"]
    nodes = {script.tags[node.id]: node for node in script.tree.nodes}
    visits = {"0": 8, "A": 4, "A1": 1, "A2": 2, "A2a": 1, "B": 2, "B1": 1, "C": 1}
    totals = {"0": 0.2, "A": -0.1, "A1": 1.0, "A2": -1.5, "A2a": -1.0, "B": 1.2, "B1": 1.0, "C": -1.0}
    assert {tag: node.visits for tag, node in nodes.items()} == visits
    assert {tag: node.total for tag, node in nodes.items()} == pytest.approx(totals)
    assert {tag: node.q for tag, node in nodes.items()} == pytest.approx({t: w / visits[t] for t, w in totals.items()})
    best = best_answer(script.tree)
    assert best is not None
    assert script.tags[best.id] in ("A1", "B1"), "the optimum: both are worth 1, by looking at all four leaves"
    root = script.tree.root
    assert sum(child.visits for child in root.children) + 1 == root.visits, "and once for its own value"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    ("strategy", "depth"),
    [
        (PlanMcts(iterations=30, root_children=3), 3),  # 27 leaves; the specification allows 30 expansions
        (X1Mcts(iterations=20, children=3, stop_at_terminal=False), 4),  # 81 leaves below 40 inner nodes
    ],
)
def test_a_random_trees_optimum_is_found(strategy: Any, depth: int, seed: int) -> None:
    """Values of beginnings tell the best leaf below; the optimum is that of looking at every leaf."""
    world = Letters.random(seed, branch=3, depth=depth)
    found = search(strategy, engine(world.reply), world.best_below)
    assert word_of(found.trajectory.text) == world.optimum
    assert len([node for node in found.tree.nodes if node.children]) <= strategy.iterations


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("form", ["plan", "x1"])
def test_a_search_of_everything_is_exhaustive(form: str, seed: int) -> None:
    """Values that tell nothing: every leaf is seen, and the search ends itself when each inner node is expanded."""
    draw = Random(seed)
    world = Letters.random(seed, branch=draw.choice([2, 3]), depth=draw.choice([2, 3]))
    strategy: Any = PlanMcts(iterations=1000, children=world.branch, root_children=world.branch)
    if form == "x1":
        strategy = X1Mcts(iterations=1000, children=world.branch, stop_at_terminal=False)

    def value(text: str) -> float:
        return world.leaves.get(word_of(text), 0.5)

    found = search(strategy, engine(world.reply), value)
    assert word_of(found.trajectory.text) == world.optimum
    assert {word_of(found.tree.text(leaf)) for leaf in found.tree.leaves()} == set(world.leaves)
    inner = sum(world.branch**level for level in range(world.depth))
    assert len([node for node in found.tree.nodes if node.children]) == inner


def test_visits_go_to_the_better_step() -> None:
    """With values that are true chances of success at least 60 % of 200 visits go through the best first step."""
    world = Letters(branch=2, depth=8, leaves={})

    def value(text: str) -> float:
        return 0.9 if text.startswith("b") else 0.1

    found = search(PlanMcts(iterations=200, children=2, root_children=2, max_depth=9), engine(world.reply), value)
    visits = {node.text: node.visits for node in found.tree.root.children}
    assert visits["b\n"] >= 0.6 * sum(visits.values())


def test_x1_stops_at_a_whole_answer() -> None:
    """The second selection, at N = 1, goes by values alone: it reaches the answer "b", and nothing more is tried."""
    texts = iter(["a\n", "b"])
    found = search(X1Mcts(iterations=9), lambda *_: next(texts), lambda text: float(text == "b"))
    assert found.trajectory.text == "b"
    assert len(found.tree.nodes) == 3
    assert found.tree.root.q == pytest.approx(0.96 * (1 - 1) / 2)
    more = iter(["a\n", "b", "c", "d"])
    found = search(X1Mcts(iterations=9, stop_at_terminal=False), lambda *_: next(more), lambda text: float(text == "b"))
    assert [node.text for node in found.tree.nodes[1:]] == ["a\n", "b", "c", "d"]


def test_equal_children_are_one_and_deep_or_empty_ones_fail() -> None:
    def reply(prefix: str, _: Any) -> str:
        return "\n" if prefix.endswith("a\na\n") else "a\n"

    found = search(PlanMcts(iterations=5, max_depth=3), reply, lambda text: 0.5)
    outcomes = [(node.depth, node.outcome) for node in found.tree.nodes[1:4]]
    assert outcomes == [(1, None), (2, None), (3, "malformed")]
    assert found.tree.pruned == 4 + 2 + 2
    assert found.tree.nodes[3].q == -1.0
    deep = search(PlanMcts(iterations=9, max_depth=2), lambda *_: "a\n", lambda text: 0.5)
    assert [node.outcome for node in deep.tree.nodes[1:4]] == [None, None, "too_deep"]
    assert deep.chosen is deep.tree.nodes[4], "everything has failed, so that the policy answers as without a search"


def test_a_beginning_is_ended_where_no_answer_was_found() -> None:
    world = Letters.random(5, branch=2, depth=4)
    found = search(PlanMcts(iterations=2, children=2, root_children=2), engine(world.reply), world.best_below)
    assert not [node for node in found.tree.nodes if node.kind == "solution" and node.depth < 3]
    visited = max(found.tree.root.children, key=lambda node: node.visits)
    assert found.trajectory.text.startswith(visited.text)
    assert found.chosen.terminal
    spent = search(PlanMcts(), engine(world.reply), world.best_below, budget=6)
    assert spent.tokens <= 6


def test_a_value_outside_the_range_is_refused() -> None:
    with pytest.raises(RewardError, match="gave 3; expected 0 to 1"):
        search("plan_mcts", ["a"], lambda text: 3.0)
    assert search({"name": "plan_mcts", "reward_range": [0, 4]}, ["a"], lambda text: 3.0).chosen.q == 0.5


@pytest.mark.parametrize(
    ("text", "kind", "terminal", "outcome"),
    [
        ("<step>Plan 1: add.</step>", "step", False, None),
        ("<solution>So the answer is 4.</solution>", "solution", True, None),
        ("<solution>I do not know.</solution>", "solution", True, "malformed"),
        ("<step>a</step><step>b</step>", "step", True, "malformed"),
        ("<step>a</step><solution>The answer is 4.", "solution", True, "malformed"),
        ("so 4", "step", True, "malformed"),
    ],
)
def test_plans_in_tags(text: str, kind: str, terminal: bool, outcome: str | None) -> None:
    completion = Completion(token_ids=[70], logprobs=[0.0], finish="stop", version=0)
    tree = SearchTree(PROBLEM, [1], lambda ids: text)
    node = tree.add(tree.root, completion, "step")
    StepLayout("tagged").place(node, 6)
    assert (node.kind, node.terminal, node.outcome) == (kind, terminal, outcome)
