"""The tree of a search: nodes of token ids, from the question at the root to whole answers."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import exp
from typing import Any, Literal

from llmrl.types import Completion, Message, Problem, Score, Trajectory, Turn

Kind = Literal["root", "step", "solution"]
Outcome = Literal["correct", "wrong", "malformed", "too_deep"]


@dataclass(slots=True, eq=False)
class TreeNode:
    """A step, a whole answer or the end of one; the root is the question.

    Its tokens are those that the policy sampled behind its parent's, or behind `prompt_ids` where a revision begins.
    """

    id: int  # 0 is the root's; in the order of creation
    parent: TreeNode | None
    kind: Kind
    completion: Completion  # of its own tokens; the root's is empty
    text: str = ""  # of its own tokens, without special ones
    operator: str = "generate"  # that made it: generate, refine
    prompt_ids: Sequence[int] | None = None  # where it does not go on behind its parent
    asked: Sequence[Message] = ()  # the messages that such a prompt adds
    children: list[TreeNode] = field(default_factory=list)
    terminal: bool = False  # nothing can follow it
    exhausted: bool = False  # everything below it has been tried
    outcome: Outcome | None = None
    score: Score | None = None  # the judge's, of the answer up to its end
    value: float | None = None  # the number of that score; -inf where there is none
    visits: int = 0
    total: float = 0.0  # sum of the values that were backed up
    q: float = 0.0
    created: int = 0  # iteration

    @property
    def closed(self) -> bool:
        """True where no search needs to enter it."""
        return self.terminal or self.exhausted

    @property
    def depth(self) -> int:
        """Number of nodes above it."""
        return 0 if self.parent is None else self.parent.depth + 1

    @property
    def prior(self) -> float:
        """Geometric mean of the probabilities of its tokens; not renormalised over siblings."""
        logprobs = self.completion.logprobs
        return exp(sum(logprobs) / len(logprobs)) if logprobs else 1.0

    def path(self) -> list[TreeNode]:
        """Nodes from the first below the root to this one."""
        return [] if self.parent is None else [*self.parent.path(), self]

    def answer(self) -> list[TreeNode]:
        """Nodes whose tokens are the answer up to here: the path behind the newest prompt."""
        path = self.path()
        begin = next((i for i in reversed(range(len(path))) if path[i].prompt_ids is not None), 0)
        return path[begin:]


@dataclass
class SearchTree:
    """Nodes of a search, in the order of their creation. The problem has no reference answer."""

    problem: Problem
    prompt_ids: Sequence[int]
    decode: Callable[[Sequence[int]], str] | None  # token ids to text, without special ones; None: of a tree in a file
    nodes: list[TreeNode] = field(default_factory=list)
    pruned: int = 0  # nodes that were taken out again
    opened: Callable[[Sequence[int]], str] | None = None  # what the end of a prompt began of the answer, if known

    def __post_init__(self) -> None:
        if not self.nodes:
            empty = Completion(token_ids=array("i"), logprobs=array("f"), finish="stop", version=0)
            self.nodes.append(TreeNode(0, None, "root", empty, operator="question"))

    @property
    def root(self) -> TreeNode:
        """The question."""
        return self.nodes[0]

    def add(self, parent: TreeNode, completion: Completion, kind: Kind, **facts: Any) -> TreeNode:
        """Add a child, whose text is decoded by itself.

        Args:
            facts: other fields of `TreeNode`.
        """
        number = len(self.nodes) + self.pruned
        text = "" if self.decode is None else self.decode(completion.token_ids)
        node = TreeNode(number, parent, kind, completion, text, **facts)
        self.nodes.append(node)
        parent.children.append(node)
        return node

    def prune(self, nodes: Sequence[TreeNode]) -> None:
        """Take out nodes without children."""
        gone = {node.id for node in nodes}
        for node in nodes:
            if node.parent is not None:
                node.parent.children.remove(node)
        self.nodes = [node for node in self.nodes if node.id not in gone]
        self.pruned += len(gone)

    def answer_ids(self, node: TreeNode) -> array[int]:
        """Tokens of the answer up to the end of a node."""
        return array("i", chain.from_iterable(part.completion.token_ids for part in node.answer()))

    def prefix_ids(self, node: TreeNode) -> list[int]:
        """Tokens that a child of the node goes on from: prompt and answer so far, none of them encoded again."""
        return [*self._asked(node), *self.answer_ids(node)]

    def text(self, node: TreeNode) -> str:
        """Text of the answer up to the end of a node; without a decoder the texts of its nodes."""
        if self.decode is None:
            return "".join(part.text for part in node.answer())
        return self.decode(self.answer_ids(node))

    def written(self, node: TreeNode) -> str:
        """Text of the answer up to the end of a node, behind what its prompt began of it."""
        return self._opened(self._asked(node)) + self.text(node)

    def trajectory(self, node: TreeNode) -> Trajectory:
        """The answer that ends with a node as an episode: a turn, and another for each revision."""
        if node.parent is None:
            return Trajectory(
                problem=self.problem, turns=[], status="max_tokens", reason="the budget had no token left"
            )
        turns, begun = [], [part for part in node.path() if part.prompt_ids is not None]
        ends = [*(part.parent for part in begun if part.parent is not None), node]
        for end, revision in zip(ends, [*begun, None], strict=True):
            turns.append(self._turn(end, () if revision is None else revision.asked))
        return Trajectory(problem=self.problem, turns=turns, status="done")

    def _turn(self, end: TreeNode, reply: Sequence[Message]) -> Turn:
        parts = [part.completion for part in end.answer()]
        ids = self.answer_ids(end)
        completion = Completion(
            token_ids=ids,
            logprobs=array("f", chain.from_iterable(part.logprobs for part in parts)),
            finish=parts[-1].finish if end.terminal else "length",  # nobody ended it
            version=parts[0].version,
            semantics=parts[0].semantics,
        )
        prompt = array("i", self._asked(end))
        opened = self._opened(prompt)
        return Turn(prompt_ids=prompt, completion=completion, text=self.text(end), reply=reply, opened=opened)

    def _asked(self, node: TreeNode) -> Sequence[int]:
        """The prompt that a node's answer stands behind: the question's, or that of its newest revision."""
        begin = node.answer()[:1]
        return self.prompt_ids if not begin or begin[0].prompt_ids is None else begin[0].prompt_ids

    def _opened(self, prompt: Sequence[int]) -> str:
        return "" if self.opened is None else self.opened(prompt)

    def leaves(self) -> Iterator[TreeNode]:
        """Whole answers, in the order of their creation."""
        return (
            node for node in self.nodes if node.kind == "solution" and node.outcome not in ("malformed", "too_deep")
        )
