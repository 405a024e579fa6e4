"""Rows to learn from, made of trees: demonstrations, labels of steps, and preferences between steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmrl.reasoning.tree import SearchTree, TreeNode

IGNORED = -100.0  # the label of a step that nobody knows, as in llmrl.reward_models.stepwise
BROKEN = ("malformed", "too_deep")
SOLUTION_SHARE = 0.3  # of the difference between solutions, which count less than plans (arXiv 2409.08642, its code)


def worth(node: TreeNode, min_visits: int = 1) -> float | None:
    """Value of a node from -1 to 1: its outcome, else its q; None where neither is known."""
    if node.outcome == "correct":
        return 1.0
    if node.outcome is not None:
        return -1.0
    return node.q if node.visits >= min_visits else None


def sft_rows(tree: SearchTree, most: int = 4) -> Iterator[dict[str, Any]]:
    """Prompt and completion, as messages, of the best right answers: at most `most`, of different texts.

    An answer is right by its outcome; where the search knew none, if its value is above 0.
    """
    right = [(value, node) for node in tree.leaves() if (value := worth(node)) is not None and value > 0]
    right.sort(key=lambda entry: -entry[0])
    first: dict[str, float] = {}
    for value, node in right:
        first.setdefault(tree.text(node), value)
    for text, value in list(first.items())[:most]:
        yield _asked(tree) | {"completion": [{"role": "assistant", "content": text}], "value": value}


def stepwise_rows(tree: SearchTree, min_visits: int = 1, soft: bool = True) -> Iterator[dict[str, Any]]:
    """Steps and labels, in TRL's stepwise columns, of every whole answer, right or wrong.

    The label of a step is (q + 1) / 2, a chance to come out right; without `soft` 1.0 where that is above a half. A
    step with fewer visits than `min_visits` has none (-100), and an answer without any label is left out.
    """
    for leaf in tree.leaves():
        steps = [node for node in leaf.answer() if node.text.strip()]
        values = [worth(node, min_visits) for node in steps]
        chances = [IGNORED if value is None else (value + 1) / 2 for value in values]
        labels = chances if soft else [c if c == IGNORED else float(c > 0.5) for c in chances]
        if any(label != IGNORED for label in labels):
            yield _asked(tree) | {"completions": [node.text.strip() for node in steps], "labels": labels}


def preference_rows(tree: SearchTree, min_visits: int = 1) -> Iterator[dict[str, Any]]:
    """Pairs of siblings, the better with a value above 0 and the worse with one below, token ids beside the texts.

    Steps: every such pair. Whole answers: the best and the worst alone, whose values count by `SOLUTION_SHARE` where a
    plan stands before them. A step is never paired with a whole answer, nor a malformed child with any. `prefix` is the
    answer before both; where it is empty the rows are TRL's preferences.
    """
    for parent in tree.nodes:
        children = [child for child in parent.children if child.outcome not in BROKEN and child.prompt_ids is None]
        steps = [(q, c) for c in children if c.kind == "step" and (q := worth(c, min_visits)) is not None]
        for q_chosen, chosen in steps:
            for q_rejected, rejected in steps:
                if q_chosen > 0 > q_rejected:
                    yield _pair(tree, parent, chosen, rejected, (q_chosen, q_rejected))
        solutions = [(q, c) for c in children if c.kind == "solution" and (q := worth(c)) is not None]
        if solutions:
            best, worst = max(solutions, key=lambda s: s[0]), min(solutions, key=lambda s: s[0])
            share = 1.0 if parent.parent is None else SOLUTION_SHARE
            if best[0] > 0 > worst[0]:
                yield _pair(tree, parent, best[1], worst[1], (share * best[0], share * worst[0]))


def _pair(
    tree: SearchTree, parent: TreeNode, chosen: TreeNode, rejected: TreeNode, q: tuple[float, float]
) -> dict[str, Any]:
    return _asked(tree) | {
        "prefix": tree.text(parent),
        "chosen": chosen.text,
        "rejected": rejected.text,
        "margin": q[0] - q[1],
        "q_chosen": q[0],
        "q_rejected": q[1],
        "kind": "plan" if chosen.kind == "step" else "solution",
        "depth": chosen.depth,
        "prefix_ids": tree.prefix_ids(parent),
        "chosen_ids": list(chosen.completion.token_ids),
        "rejected_ids": list(rejected.completion.token_ids),
    }


def _asked(tree: SearchTree) -> dict[str, Any]:
    return {"problem": tree.problem.id, "prompt": [dict(message) for message in tree.problem.messages]}
