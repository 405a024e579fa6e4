"""Rows that a reward model reads and learns from. Standard library only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from llmrl.types import Message

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow:
    """A prompt and its answer, as a whole or in steps."""

    prompt: str | Sequence[Message]
    response: str = ""
    steps: Sequence[str] | None = None  # for a process model, without the separators between them; replaces `response`
    variables: Mapping[str, Any] = field(default_factory=dict)  # for the model's template, besides: principles, say


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """A better and a worse answer to one prompt."""

    chosen: AnswerRow
    rejected: AnswerRow
    margin: float | None = None  # by how much, in units of reward
    problem: str = ""  # pairs of one problem are never parted between training and test


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRow:
    """An answer with labels from 0 to 1: one of the whole, or one of each step, where -100 is none."""

    answer: AnswerRow
    labels: Sequence[float]
    problem: str = ""  # answers to one problem are never parted between training and test


@dataclass(frozen=True, slots=True)
class Rows(Generic[R]):
    """Rows as read, and counts of rows left out, by reason."""

    kept: list[R]
    rejected: Counter[str] = field(default_factory=Counter)
