"""The policy of a search: an engine whose tokens are counted against a budget."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmrl.chat import Chat
from llmrl.protocols import Engine
from llmrl.reasoning.tree import SearchTree, TreeNode
from llmrl.types import Completion, Message, Sampling


@dataclass
class SearchPolicy:
    """Grows a tree by an engine. Requests made together are one batch, with those of all other trees.

    A completion depends on the seed of the sampling, on the node and on its number among the children alone; the first
    answer behind the question has the seed itself, so that it is the one which no search would have given.
    """

    engine: Engine
    chat: Chat
    sampling: Sampling  # of an answer; `max_tokens` is the limit of its length
    budget: int | None = None  # tokens that may be generated for the question; None: no limit
    max_model_len: int | None = None  # tokens of prompt and answer
    tokens: int = 0  # generated so far

    async def answers(self, tree: SearchTree, n: int) -> list[TreeNode]:
        """Generate `n` whole answers to the question; fewer where the budget has not a token for each."""
        return await self.grow(tree, [tree.root], n)

    async def grow(
        self,
        tree: SearchTree,
        nodes: Sequence[TreeNode],
        n: int,
        stop: Sequence[str] = (),
        max_tokens: int | None = None,
        **facts: Any,
    ) -> list[TreeNode]:
        """Generate `n` children of each node; those of a node stand together.

        A child whose text ended at a string of `stop`, or at `max_tokens`, is a step; one that the model ended, or the
        limit of the answer, is the end of an answer. What is left of the budget is divided among the requests, and
        where there is not a token for each, the later ones are left out.

        Args:
            nodes: none of them terminal.
            stop: strings that end a step; none for whole answers.
            max_tokens: of each child.
            facts: fields of the new nodes.
        """
        asked = [node for node in nodes for _ in range(n)]
        rooms = [self._room(tree, node) for node in asked]
        return await self._ask(tree, asked, rooms, stop, max_tokens, facts)

    async def finish(self, tree: SearchTree, node: TreeNode) -> TreeNode:
        """Let the policy end the answer that a node begins; the node itself where it is ended, or the budget is."""
        return node if node.terminal else (await self.grow(tree, [node], 1) or [node])[0]

    async def refine(
        self, tree: SearchTree, node: TreeNode, n: int, messages: Sequence[Message], **facts: Any
    ) -> list[TreeNode]:
        """Generate `n` whole answers anew, with a node's answer and `messages` before them in the conversation.

        Raises:
            CheckpointError: the chat template cannot take a second turn.
        """
        prompt = self.chat.extend_ids([*tree.prompt_ids, *tree.answer_ids(node)], messages)
        room = min(self.sampling.max_tokens, self._fits(len(prompt)))
        made = facts | {"operator": "refine", "prompt_ids": prompt, "asked": list(messages)}
        return await self._ask(tree, [node] * n, [room] * n, (), None, made)

    async def _ask(
        self,
        tree: SearchTree,
        asked: Sequence[TreeNode],
        rooms: Sequence[int],
        stop: Sequence[str],
        max_tokens: int | None,
        facts: dict[str, Any],
    ) -> list[TreeNode]:
        """Send a request for each node at once, and add what comes back to the tree, in their order."""
        share = max(rooms, default=0)
        if self.budget is not None and asked:
            asked = asked[: max(0, self.budget - self.tokens)]
            share = (self.budget - self.tokens) // max(1, len(asked))
        prompt, placed, jobs = facts.get("prompt_ids"), Counter[int](), []
        for node, room in zip(asked, rooms, strict=False):
            limit = min(room, share, room if max_tokens is None else max_tokens)
            seed = self._seed(node, len(node.children) + placed[node.id], facts)
            placed[node.id] += 1
            sampling = replace(self.sampling, max_tokens=limit, stop=tuple(stop), seed=seed)
            jobs.append(self._generate(tree.prefix_ids(node) if prompt is None else prompt, sampling))
        completions = await asyncio.gather(*jobs)
        self.tokens += sum(len(completion.token_ids) for completion in completions)
        made = []
        for node, room, completion in zip(asked, rooms, completions, strict=False):
            ended = completion.finish == "stop" and completion.stopped_by is None
            ended = ended or len(completion.token_ids) >= room
            made.append(tree.add(node, completion, "solution" if ended else "step", terminal=ended, **facts))
        return made

    async def _generate(self, ids: Sequence[int], sampling: Sampling) -> Completion:
        if sampling.max_tokens < 1:
            return Completion(token_ids=(), logprobs=(), finish="length", version=0, semantics=sampling.semantics)
        return await self.engine.generate(ids, sampling)

    def _room(self, tree: SearchTree, node: TreeNode) -> int:
        """Tokens that may follow in the answer."""
        whole = self.sampling.max_tokens - len(tree.answer_ids(node))
        return max(0, min(whole, self._fits(len(tree.prefix_ids(node)))))

    def _fits(self, length: int) -> int:
        return self.sampling.max_tokens if self.max_model_len is None else max(0, self.max_model_len - length)

    def _seed(self, node: TreeNode, number: int, facts: dict[str, Any]) -> int | None:
        seed = self.sampling.seed
        if seed is None or (node.parent is None and number == 0):
            return seed
        name = f"{seed}/{node.id}/{number}/{facts.get('operator', '')}"
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()) >> 1
