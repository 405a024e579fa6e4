"""Monte-Carlo tree search over steps, in the plan form and in that of x1, blind to engines and judges."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import Random

from llmrl.ops.tree_search import backed_up_x1, puct, uct_x1
from llmrl.reasoning.tree import SearchTree, TreeNode

Expand = Callable[[TreeNode, int], Awaitable[Sequence[TreeNode]]]
"""Makes the children of a node, in an iteration; none where it cannot."""
Evaluate = Callable[[Sequence[TreeNode]], Awaitable[Sequence[float]]]
"""Values of nodes: of whole answers, and of beginnings as far as a model can tell."""


async def plan_mcts(
    tree: SearchTree, expand: Expand, evaluate: Evaluate, *, iterations: int, c_puct: float, draw: Random
) -> None:
    """Grow a tree in the plan form; `q` of a node is the mean of the values backed up through it.

    An iteration selects by PUCT a leaf below which there is something to try, backs its value up, expands it, and backs
    up the value of each child that is terminal. Terminal children are not entered again.

    Args:
        iterations: at most; fewer where the whole tree has been tried, or nothing can be expanded.
        draw: breaks exact ties.
    Source: critical plan step learning (arXiv 2409.08642).
    """
    for iteration in range(iterations):
        leaf = tree.root
        while leaf.children and not leaf.closed:
            leaf = _selected(leaf, c_puct, draw)
        if leaf.closed:
            return
        _back_up(leaf, (await evaluate([leaf]))[0])
        children = await expand(leaf, iteration)
        ended = [child for child in children if child.terminal]
        for child, value in zip(ended, await evaluate(ended) if ended else (), strict=True):
            _back_up(child, value)
        _close(leaf)


def _selected(parent: TreeNode, c_puct: float, draw: Random) -> TreeNode:
    """The open child of the highest score."""
    open_ = [child for child in parent.children if not child.closed]
    scores = puct(
        [child.q for child in open_],
        [child.visits for child in open_],
        [child.prior for child in open_],
        parent.visits,
        c_puct,
    )
    best = max(scores)
    return draw.choice([child for child, score in zip(open_, scores, strict=True) if score == best])


def _back_up(node: TreeNode, value: float) -> None:
    """Add a value to a node and to all above it, the root included."""
    above: TreeNode | None = node
    while above is not None:
        above.visits += 1
        above.total += value
        above.q = above.total / above.visits
        above = above.parent


def _close(leaf: TreeNode) -> None:
    """Close the nodes that have nothing left to try: each whose children are all closed, and a leaf without any."""
    node: TreeNode | None = leaf
    while node is not None and all(child.closed for child in node.children):
        node.exhausted = True
        node = node.parent


async def x1_mcts(
    tree: SearchTree,
    expand: Expand,
    evaluate: Evaluate,
    *,
    iterations: int,
    reward_range: tuple[float, float],
    gamma: float = 0.96,
    learning_rate: float = 1.0,
    stop_at_terminal: bool = True,
) -> None:
    """Grow a tree in the form of x1; `q` of a node is a discounted mean of its children, weighted by their visits.

    An iteration selects a leaf, expands it, gives each child its value at once, and backs up to the root.

    Args:
        iterations: at most.
        reward_range: of all values.
        stop_at_terminal: end when the selection reaches a whole answer, as x1 does; else such children are passed by,
            until the whole tree has been tried.
    Source: the reasoning blueprint (arXiv 2501.11223) and its code.
    """
    for iteration in range(iterations):
        leaf = tree.root
        while leaf.children and not leaf.closed:
            tried = leaf.children if stop_at_terminal else [child for child in leaf.children if not child.closed]
            scores = uct_x1([c.q for c in tried], [c.visits for c in tried], leaf.visits, reward_range)
            leaf = tried[max(range(len(tried)), key=scores.__getitem__)]
        if leaf.closed:
            return
        children = await expand(leaf, iteration)
        for child, value in zip(children, await evaluate(children) if children else (), strict=True):
            child.q, child.visits, child.total = value, 1, value
        node: TreeNode | None = leaf if children else None
        while node is not None:
            node.q = backed_up_x1(
                node.q, [c.q for c in node.children], [c.visits for c in node.children], gamma, learning_rate
            )
            node.visits += 1
            node = node.parent
        _close(leaf)


def best_answer(tree: SearchTree) -> TreeNode | None:
    """The whole answer of the highest value, the earliest of several; None where no answer has ended."""
    answers = list(tree.leaves())
    return max(answers, key=lambda node: node.q) if answers else None


def best_leaf(tree: SearchTree) -> TreeNode:
    """The beginning that most visits went to and that can go on; the root where there is none."""
    node = tree.root
    while growing := [child for child in node.children if not child.terminal]:
        node = max(growing, key=lambda child: (child.visits, child.q, child.prior))
    return node
