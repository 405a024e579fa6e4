"""Trees on disk: a line for each node, with its token ids, and back.

A line has `tree_id`, `node_id`, `parent_ids`, `kind` (root, step, solution), `text`, `token_ids`, `logprobs`,
`logprob_sum`, `n_tokens`, `prior`, `depth`, `visits`, `total`, `q`, `value_model` (the judge's number of a beginning),
`reward` (of a whole answer), `terminal`, `outcome`, `created_iter`, `operator`, `finish`, `stopped_by`, `version` and
`semantics`. The root's has the question besides: `problem`, `prompt` (messages) and `prompt_ids`; a revision's its
`prompt_ids` and `asked`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from math import isfinite
from pathlib import Path
from typing import Any

from llmrl.datafiles import json_text
from llmrl.errors import DataError
from llmrl.reasoning.tree import SearchTree, TreeNode
from llmrl.types import Completion, Problem


def node_rows(tree: SearchTree, tree_id: str) -> Iterator[dict[str, Any]]:
    """Make a tree's lines: parents before their children."""
    for node in tree.nodes:
        completion = node.completion
        number = node.value if node.value is not None and isfinite(node.value) else None
        row: dict[str, Any] = {
            "tree_id": tree_id,
            "node_id": node.id,
            "parent_ids": [] if node.parent is None else [node.parent.id],
            "kind": node.kind,
            "text": node.text,
            "token_ids": list(completion.token_ids),
            "logprobs": list(completion.logprobs),
            "logprob_sum": sum(completion.logprobs),
            "n_tokens": len(completion.token_ids),
            "prior": node.prior,
            "depth": node.depth,
            "visits": node.visits,
            "total": node.total,
            "q": node.q,
            "value_model": None if node.terminal else number,
            "reward": number if node.terminal else None,
            "terminal": node.terminal,
            "outcome": node.outcome,
            "created_iter": node.created,
            "operator": node.operator,
            "finish": completion.finish,
            "stopped_by": completion.stopped_by,
            "version": completion.version,
            "semantics": completion.semantics,
        }
        if node.parent is None:
            row |= {
                "problem": tree.problem.id,
                "prompt": [dict(message) for message in tree.problem.messages],
                "prompt_ids": list(tree.prompt_ids),
            }
        if node.prompt_ids is not None:
            row |= {"prompt_ids": list(node.prompt_ids), "asked": [dict(message) for message in node.asked]}
        yield row


def read_trees(path: str | Path) -> Iterator[tuple[str, SearchTree]]:
    """Read a file's trees, one at a time, each with its id; the lines of a tree stand together.

    Raises:
        DataError: a line is no node, or its tree has no root before it; names file and line.
    """
    with Path(path).open("rb") as file:
        placed = ((f"{path}:{n}", _line(f"{path}:{n}", line)) for n, line in enumerate(file, start=1))
        for tree_id, rows in groupby(placed, key=lambda entry: str(entry[1]["tree_id"])):
            yield tree_id, tree_of(rows)


def _line(where: str, line: bytes) -> Mapping[str, Any]:
    row = json_text.parse(line, where)
    if not (isinstance(row, dict) and {"tree_id", "node_id"} <= row.keys()):
        raise DataError(
            f"{where}: no node of a tree: {str(row)[:60]!r}; expected `tree_id` and `node_id`, and what else "
            "`llmrl data search` writes"
        )
    return row


def tree_of(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> SearchTree:
    """A tree of the lines of its nodes, each with its place, the root first.

    Raises:
        DataError: one is no node, or its parent is not there; names the place.
    """
    tree: SearchTree | None = None
    nodes: dict[int, TreeNode] = {}
    for where, row in rows:
        try:
            if not row["parent_ids"]:
                problem = Problem(id=row["problem"], messages=row["prompt"])
                tree = SearchTree(problem, row["prompt_ids"], None, [])
                tree.nodes.clear()
                parent = None
            else:
                parent = nodes[row["parent_ids"][0]]
            node = nodes[row["node_id"]] = _node(row, parent)
            if tree is None:
                raise KeyError("a root")
        except (KeyError, TypeError) as error:
            raise DataError(f"{where}: a node without {error}; expected what `llmrl data search` writes") from None
        tree.nodes.append(node)
        if parent is not None:
            parent.children.append(node)
    assert tree is not None  # groupby gives no empty group
    tree.pruned = max(nodes) + 1 - len(nodes)
    return tree


def _node(row: Mapping[str, Any], parent: TreeNode | None) -> TreeNode:
    completion = Completion(
        token_ids=array("i", row["token_ids"]),
        logprobs=array("f", row["logprobs"]),
        finish=row["finish"],
        version=row["version"],
        stopped_by=row["stopped_by"],
        semantics=row["semantics"],
    )
    return TreeNode(
        row["node_id"],
        parent,
        row["kind"],
        completion,
        row["text"],
        operator=row["operator"],
        prompt_ids=row.get("prompt_ids") if parent is not None else None,
        asked=row.get("asked", ()),
        terminal=row["terminal"],
        outcome=row["outcome"],
        value=row["reward"] if row["terminal"] else row["value_model"],
        visits=row["visits"],
        total=row["total"],
        q=row["q"],
        created=row["created_iter"],
    )
