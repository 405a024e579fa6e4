"""A line of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of a check: its name, its state, the details, and what to do next."""

    name: str
    state: State
    detail: str
    next_step: str = ""  # empty where there is nothing to do
