"""Lengths of a run's prompts, references and stored rows, by the policy's own tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from llmrl.chat import Chat
from llmrl.recipe import Recipe
from llmrl.rollout.context import SourceContext
from llmrl.rollout.environments import Foreseen
from llmrl.types import Problem

MOST = 2000
"""Problems whose prompts and references are encoded: of more, so many at random."""
STEPS = 8
"""Steps of stored rows that are read."""
REFERENCES = ("solution", "reasoning", "rationale", "response", "completion", "output")
"""Columns of problems in which data sets keep a worked answer."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens of what a run reads."""

    problems: int  # in the data; of stored rows 0
    measured: int  # of them, or of the rows
    prompt_mean: float
    prompt_max: int
    too_long: int  # prompts above rollout.max_prompt_length, of those that were measured
    references: int  # that there are, among those
    reference_mean: float
    reference_max: int
    reference_over: int  # longer than rollout.max_completion_length
    worked: bool  # the references are worked answers, and not results alone
    row_max: int = 0  # tokens of the longest stored row
    action_max: int = 0  # tokens of its answer

    @property
    def over_share(self) -> float:
        """Share of the references that no answer could spell out."""
        return self.reference_over / self.references if self.references else 0.0


def of_problems(recipe: Recipe, chat: Chat, problems: Sequence[Problem]) -> Lengths:
    """Measure problems: their first prompts where the environment tells them beforehand, and their references."""
    chosen = list(problems)
    if len(chosen) > MOST:
        chosen = Random(0).sample(chosen, MOST)
    shown = chosen
    if isinstance(recipe.env, Foreseen) and recipe.agent is None:
        shown = [replace(problem, messages=tuple(recipe.env.first_messages(problem))) for problem in chosen]
    prompts = [len(chat.prompt_ids(problem.messages, pictures=True)) for problem in shown]
    texts = [(problem.answer, _worked(problem.info)) for problem in chosen]
    references = [_tokens(chat, worked or answer) for answer, worked in texts if worked or answer]
    rollout = recipe.rollout
    return Lengths(
        problems=len(problems),
        measured=len(chosen),
        prompt_mean=fmean(prompts) if prompts else 0.0,
        prompt_max=max(prompts, default=0),
        too_long=sum(tokens > rollout.max_prompt_length for tokens in prompts),
        references=len(references),
        reference_mean=fmean(references) if references else 0.0,
        reference_max=max(references, default=0),
        reference_over=sum(tokens > rollout.max_completion_length for tokens in references),
        worked=any(worked for _, worked in texts),
    )


def of_rows(recipe: Recipe, chat: Chat) -> Lengths:
    """Measure the stored rows of the first steps.

    Raises:
        DataError: they cannot be read.
    """
    source = recipe.source.start(
        SourceContext(chat=chat, options=recipe.rollout, seed=recipe.train.seed, folder=Path(recipe.train.output_dir))
    )
    try:
        rows = [row for step in range(min(STEPS, recipe.train.max_steps)) for row in source.next(step)]
    finally:
        source.close()
    actions = [row.actions for row in rows]
    prompts = [int(row.action_mask.argmax()) for row in rows]
    return Lengths(
        problems=0,
        measured=len(rows),
        prompt_mean=fmean(prompts),
        prompt_max=max(prompts),
        too_long=0,  # the source leaves them out
        references=len(rows),
        reference_mean=fmean(actions),
        reference_max=max(actions),
        reference_over=0,
        worked=True,
        row_max=max(len(row.token_ids) for row in rows),
        action_max=max(actions),
    )


def _worked(info: Mapping[str, Any]) -> str:
    """A worked answer among a problem's columns; "" where there is none."""
    return next((text for name in REFERENCES if isinstance(text := info.get(name), str) and text), "")


def _tokens(chat: Chat, text: str) -> int:
    return len(chat.tokenizer(text, add_special_tokens=False)["input_ids"])
