"""Answers to a benchmark's problems by a search: a generator like any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmrl.evaluation.generators import Played, refused
from llmrl.reasoning.searcher import Searcher
from llmrl.types import Problem, Sampling


@dataclass(frozen=True)
class SearchGenerator:
    """Asks a searcher; `Played.tokens` counts all that the policy generated."""

    searcher: Searcher
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_prompt_tokens: int | None = None

    async def generate(self, problem: Problem, sampling: Sampling) -> Played:
        """Search an answer.

        Raises:
            EngineError: the engine failed.
            RewardError: the judge gives no values.
        """
        prompt = self.searcher.chat.prompt_ids(problem.messages)
        if self.max_prompt_tokens is not None and len(prompt) > self.max_prompt_tokens:
            return refused(problem, f"a prompt of {len(prompt)} tokens; at most {self.max_prompt_tokens} fit")
        found = await self.searcher.play(problem, sampling, prompt)
        return Played(found.trajectory, found.tokens)
