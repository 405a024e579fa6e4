"""The extension point of search: a strategy grows a tree and chooses the end of an answer in it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.policy import SearchPolicy
from llmrl.reasoning.tree import SearchTree, TreeNode


@runtime_checkable
class Strategy(Protocol):
    """A search at test time. A frozen dataclass: its fields are its options.

    Optional: `judged = False` for one that never asks the judge, and `contexts = 2` for one whose prompts hold an
    earlier answer.
    """

    async def search(self, tree: SearchTree, policy: SearchPolicy, judge: AnswerJudge) -> TreeNode:
        """Grow the tree and return the node that ends the chosen answer; the root where there is none."""
        ...
